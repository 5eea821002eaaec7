"""The commands of the documentation, run as they stand there.

A block of shell behind `<!-- runs -->` is executed; the blocks of one page run in their order, in
one shell, in an empty folder that looks like a set-up clone.
"""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from shared.settings import MORE_ADDRESSES, SERVICES, Settings
from shared.testing.ports import free_port

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- runs -->\n```sh\n(.*?)```", re.DOTALL)
PAGES = [
    page
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    if BLOCK.search(page.read_text())
]
# It installs what is installed already; tests/e2e plays the tutorial.
ELSEWHERE = {"make run"}


def script(page, addresses):
    """The blocks of a page, with the documented addresses replaced by free ones."""
    blocks = [block.strip() for block in BLOCK.findall(page.read_text())]
    text = "\n".join(block for block in blocks if block not in ELSEWHERE)
    for name, address in addresses.items():
        text = text.replace(Settings.model_fields[f"{name}_address"].default, address)
    return text


def run(text, folder, addresses):
    """Status and output of a script; whatever it started ends with it."""
    environment = {f"TOUCHSTONE_{n.upper()}_ADDRESS": a for n, a in addresses.items()}
    for name in MORE_ADDRESSES:
        environment.setdefault(f"TOUCHSTONE_{name.upper()}", "")
    (folder / "page.sh").write_text(text)
    log = folder / "page.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-eu", "page.sh"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(280)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, log.read_text()


@pytest.fixture
def clone(tmp_path):
    """A folder that holds what a command may need of a clone, and no data."""
    for name in (".venv", "docs", "protos", "deploy", "clients"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_there_are_commands_to_run():
    assert ROOT / "README.md" in PAGES


def test_make_run_plays_the_tutorial():
    done = subprocess.run(
        ["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "touchstone tutorial" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_run(page, clone):
    addresses = {name: f"127.0.0.1:{free_port()}" for name in (*SERVICES, "events_http")}
    status, output = run(script(page, addresses), clone, addresses)
    assert status == 0, output[-4000:]
    assert "Traceback" not in output


def test_command_that_fails_is_noticed(clone):
    """The twin: a page with a wrong command does not pass."""
    status, output = run("touch made\nfalse\ntouch unmade\n", clone, {})
    assert status != 0, output
    assert (clone / "made").exists()
    assert not (clone / "unmade").exists()
