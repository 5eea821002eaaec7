"""The last known rulesets on the disk: whole or not at all, and what is refused is put aside."""

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from touchstone.assignment.v1 import ruleset_pb2

from services.assignment.adapters.disk_snapshots import DiskRulesets
from services.assignment.serving_ports import KeptRuleset

TIME = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def ruleset(version: int, project: str = "acme", **changes: object) -> KeptRuleset:
    fields = {"format": 1, "project": project, "config_version": version} | changes
    body = ruleset_pb2.Ruleset(**fields).SerializeToString()  # type: ignore[arg-type]
    return KeptRuleset(project, version, TIME, body)


@pytest.fixture
def disk(tmp_path: Path) -> DiskRulesets:
    return DiskRulesets(tmp_path / "assignment" / "rulesets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "assignment" / "rulesets"


def names(folder: Path) -> list[str]:
    """The files of rules, without the records of what serves."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".serving")


def test_a_new_folder_holds_nothing(disk: DiskRulesets) -> None:
    assert disk.load() == []


def test_what_was_kept_is_loaded_by_project(disk: DiskRulesets, folder: Path) -> None:
    for kept in (ruleset(1, "b"), ruleset(7, "acme")):
        disk.keep(kept)
    assert disk.load() == [ruleset(7, "acme"), ruleset(1, "b")]
    assert names(folder) == ["acme.ruleset", "b.ruleset"]
    assert folder.stat().st_mode & 0o077 == 0


def test_the_revision_before_stays_and_the_same_one_takes_no_place(
    disk: DiskRulesets, folder: Path
) -> None:
    disk.keep(ruleset(1))
    disk.keep(ruleset(2))
    later = KeptRuleset("acme", 2, TIME + dt.timedelta(hours=1), ruleset(2).ruleset)
    disk.keep(later)
    assert disk.load() == [later]
    (folder / "acme.ruleset").unlink()
    assert disk.load() == [ruleset(1)]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda _data: b"",
        lambda data: data + b"x",
        lambda data: flip(data, 3),
        lambda data: flip(data, 80),
        lambda data: flip(data, len(data) - 1),
        lambda _data: b"\x00" * 300,
    ],
)
def test_a_damaged_file_is_put_aside_and_the_one_before_is_used(
    disk: DiskRulesets,
    folder: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk.keep(ruleset(1))
    disk.keep(ruleset(2))
    current = folder / "acme.ruleset"
    damaged = damage(current.read_bytes())
    current.write_bytes(damaged)
    assert disk.load() == [ruleset(1)]
    assert (folder / "acme.ruleset.refused").read_bytes() == damaged
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert disk.load() == [ruleset(1)]
    disk.keep(ruleset(3))
    assert disk.load() == [ruleset(3)]


def test_without_a_whole_file_there_is_nothing(disk: DiskRulesets, folder: Path) -> None:
    disk.keep(ruleset(1))
    disk.keep(ruleset(2))
    for name in names(folder):
        (folder / name).write_bytes(b"nothing")
    assert disk.load() == []
    assert names(folder) == ["acme.previous.refused", "acme.ruleset.refused"]


def test_a_file_of_an_older_version_is_refused(disk: DiskRulesets, folder: Path) -> None:
    disk.keep(ruleset(3))
    old = (folder / "acme.ruleset").read_bytes()
    for version in (5, 6):
        disk.keep(ruleset(version))
    (folder / "acme.ruleset").write_bytes(old)
    assert disk.load() == [ruleset(5)]
    assert "acme.ruleset.refused" in names(folder)


def test_what_is_newer_than_the_store_says_makes_room(
    disk: DiskRulesets, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (8, 9, 4):
        disk.keep(ruleset(version))
    assert disk.load() == [ruleset(4)]
    assert names(folder) == ["acme.previous.refused", "acme.ruleset", "acme.ruleset.refused"]
    assert len(caplog.records) == 2


def signed(header: object, body: bytes) -> bytes:
    content = json.dumps(header).encode() + b"\n" + body
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


HEADER = {"format": 1, "project": "acme", "config_version": 4, "confirm_time": TIME.isoformat()}


@pytest.mark.parametrize(
    "content",
    [
        signed(HEADER | {"format": 2}, ruleset(4).ruleset),
        signed(HEADER, ruleset(4, format=2).ruleset),
        signed(HEADER | {"project": "rival"}, ruleset(4).ruleset),
        signed(HEADER, ruleset(4, "rival").ruleset),
        signed(HEADER, b"\xff\xff"),
        signed(HEADER | {"confirm_time": "yesterday"}, ruleset(4).ruleset),
        signed([1], ruleset(4).ruleset),
        signed({}, b""),
    ],
)
def test_a_file_of_another_program_or_project_is_refused(
    disk: DiskRulesets, folder: Path, content: bytes
) -> None:
    disk.keep(ruleset(1))
    (folder / "acme.ruleset").write_bytes(content)
    assert disk.load() == []
    assert names(folder) == ["acme.ruleset.refused"]


def test_a_draft_that_was_not_finished_is_not_seen(disk: DiskRulesets, folder: Path) -> None:
    disk.keep(ruleset(1))
    (folder / "acme.draft").write_bytes(b"half")
    assert disk.load() == [ruleset(1)]
    disk.keep(ruleset(2))
    assert names(folder) == ["acme.previous", "acme.ruleset"]


RUNNING, NOT_RUNNING = ruleset_pb2.SERVING_RUNNING, ruleset_pb2.SERVING_NOT_RUNNING
EXTERNAL, KILLED = ruleset_pb2.SERVING_EXTERNAL, ruleset_pb2.SERVING_KILLED


def serving(version: int, **experiments: int) -> KeptRuleset:
    rules = [
        ruleset_pb2.ExperimentRule(experiment=name, serving=how)  # type: ignore[arg-type]
        for name, how in experiments.items()
    ]
    return ruleset(version, experiments=rules)


def loaded(disk: DiskRulesets) -> dict[str, int]:
    (kept,) = disk.load()
    found = ruleset_pb2.Ruleset.FromString(kept.ruleset)
    return {rule.experiment: rule.serving for rule in found.experiments}


def test_rules_from_before_a_kill_do_not_bring_the_experiment_back(
    disk: DiskRulesets, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = dict.fromkeys(("killed", "paused", "gone", "on"), RUNNING)
    disk.keep(serving(1, **before, other=EXTERNAL, draft=NOT_RUNNING))
    disk.keep(serving(2, killed=KILLED, paused=NOT_RUNNING, on=RUNNING, draft=RUNNING))
    newest = folder / "acme.ruleset"
    newest.write_bytes(flip(newest.read_bytes(), 200))
    assert loaded(disk) == {
        "killed": KILLED,
        "paused": NOT_RUNNING,
        "gone": NOT_RUNNING,
        "on": RUNNING,
        "other": EXTERNAL,
        "draft": NOT_RUNNING,
    }
    assert [record.message for record in caplog.records].count(
        "a kept configuration is refused and put aside"
    ) == 1


def test_a_kill_counts_from_before_its_rules_are_in_place(disk: DiskRulesets, folder: Path) -> None:
    disk.keep(serving(1, button=RUNNING))
    one = (folder / "acme.ruleset").read_bytes()
    disk.keep(serving(2, button=KILLED))
    # As if the process had ended between the record and the rules.
    (folder / "acme.ruleset").write_bytes(one)
    (folder / "acme.previous").unlink()
    assert loaded(disk) == {"button": KILLED}


def test_what_is_on_again_serves(disk: DiskRulesets) -> None:
    disk.keep(serving(1, button=KILLED))
    disk.keep(serving(2, button=RUNNING))
    assert loaded(disk) == {"button": RUNNING}
    # A store that was restored to an older version has the last word.
    disk.keep(serving(1, button=RUNNING))
    assert loaded(disk) == {"button": RUNNING}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: flip(data, 90)])
def test_a_damaged_record_is_put_aside_and_the_rules_decide(
    disk: DiskRulesets, folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    disk.keep(serving(1, button=RUNNING))
    record = folder / "acme.serving"
    record.write_bytes(damage(record.read_bytes()))
    assert loaded(disk) == {"button": RUNNING}
    assert (folder / "acme.serving.refused").exists()


def test_a_record_of_another_project_is_put_aside(disk: DiskRulesets, folder: Path) -> None:
    disk.keep(serving(1, button=RUNNING))
    disk.keep(ruleset(5, "rival"))
    (folder / "rival.serving").replace(folder / "acme.serving")
    (folder / "rival.ruleset").unlink()
    assert loaded(disk) == {"button": RUNNING}
