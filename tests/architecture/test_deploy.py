"""The deployment files say the same as the code, and hold what they promise of security."""

import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from services.cli.settings import CliSettings
from shared.settings import SERVICES, ServiceSettings

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()
SUITE = yaml.safe_load(COMPOSE)
PROGRAMS = (*SERVICES, "cli")
# Read by the compose file itself, not by a program of the suite.
COMPOSE_ONLY = {"TOUCHSTONE_PROJECT"}


def settings_classes():
    found = [importlib.import_module(f"services.{name}.settings").Settings for name in SERVICES]
    return [*found, ServiceSettings, CliSettings]


def known_settings():
    return {
        f"TOUCHSTONE_{field.upper()}" for each in settings_classes() for field in each.model_fields
    }


def stages():
    """The lines of each stage of the container file, by its name, with those it is built on."""
    lines: dict[str, list[str]] = {}
    bases: dict[str, str] = {}
    name = ""
    for line in CONTAINERFILE.splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            base, name = match.groups()
            bases[name], lines[name] = base, []
        elif name:
            lines[name].append(line)

    def whole(name):
        return [*whole(bases[name]), *lines[name]] if name in lines else []

    return {name: whole(name) for name in lines}


def address_port(service):
    return ServiceSettings.model_fields[f"{service}_address"].default.rpartition(":")[2]


@pytest.mark.parametrize("text", [CONTAINERFILE, COMPOSE], ids=["Containerfile", "compose"])
def test_every_setting_that_is_named_exists(text):
    named = set(re.findall(r"TOUCHSTONE_[A-Z_]+", text)) - COMPOSE_ONLY
    assert named
    assert named <= known_settings()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_an_image_that_starts_and_probes_it(service):
    text = "\n".join(stages()[service])
    assert f'ENTRYPOINT ["python", "-m", "services.{service}"]' in text
    assert f'CMD ["python", "-m", "shared.server.probe", "{service}"]' in text
    assert f"EXPOSE {address_port(service)}" in text
    if service == "events":
        assert f" {address_port('events_http')}\n" in text


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_image_runs_as_a_numbered_user_that_is_not_root(program):
    users = [line.split()[1] for line in stages()[program] if line.startswith("USER ")]
    assert users == ["10001:10001"]


def test_every_image_comes_from_a_pinned_tag():
    images = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)
    outside = [image for image in images if image not in stages()]
    outside += [s["image"] for s in SUITE["services"].values() if "build" not in s]
    for image in outside:
        assert re.fullmatch(r"[a-z]+:[0-9][\w.-]+", image), image


def test_dependencies_are_installed_by_their_hashes():
    assert "--require-hashes --requirement requirements/run.txt" in CONTAINERFILE


def test_the_build_sees_everything_that_it_copies():
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line[:1] == "!"
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    assert {name for names in copied for name in names.split()} == kept
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.parametrize("service", SERVICES)
def test_compose_runs_every_service_under_its_own_name_and_port(service):
    found = SUITE["services"][service]
    port = address_port(service)
    assert found["build"]["target"] == service
    more = {"assignment": ["assignment_http"], "events": ["events_http"]}.get(service, [])
    ports = [port, *(address_port(name) for name in more)]
    assert found["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
    for program in (*SERVICES, "cli", "keys"):
        environment = SUITE["services"][program]["environment"]
        assert environment[f"TOUCHSTONE_{service.upper()}_ADDRESS"] == f"{service}:{port}"


@pytest.mark.parametrize("name", SUITE["services"])
def test_every_container_is_hardened(name):
    found = SUITE["services"][name]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in found["security_opt"]
    assert "privileged" not in found
    assert "network_mode" not in found
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", found["user"])
    sources = [volume.partition(":")[0] for volume in found["volumes"]]
    assert set(sources) <= set(SUITE["volumes"])


def test_no_secret_stands_in_the_files():
    for text in (COMPOSE, CONTAINERFILE):
        for line in text.splitlines():
            if not line.lstrip().startswith("#"):
                outside = re.sub(r"\$\{[^}]*\}", "", line)
                assert not re.search(r"(?i)(password|secret|api_key|token)\S*\s*[:=]\s*\S", outside)
    assert COMPOSE.count("${POSTGRES_PASSWORD:?") == 2
    # A URL may carry a password; here it is the one from the environment.
    assert set(re.findall(r"//[a-z]+:([^@]*)@", COMPOSE)) == {
        "${POSTGRES_PASSWORD:?set it to letters and digits}"
    }


def test_nothing_starts_before_what_it_needs():
    services = SUITE["services"]
    assert services["keys"]["depends_on"]["state"]["condition"] == "service_healthy"
    for service in SERVICES:
        waits = services[service]["depends_on"]["keys"]["condition"]
        assert waits == "service_completed_successfully"
        assert services["cli"]["depends_on"][service]["condition"] == "service_healthy"
    assert "healthcheck" in services["state"]


def test_the_database_is_on_a_network_without_a_way_out():
    assert SUITE["networks"]["state"]["internal"] is True
    assert SUITE["services"]["state"]["networks"] == ["state"]
    assert "ports" not in SUITE["services"]["state"]


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "deploy/Containerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"],
        ["yamllint", "-s", "."],
        ["shellcheck", "deploy/setup.sh", "deploy/lock.sh", ".ci/run"],
    ],
    ids=lambda command: command[0],
)
def test_linter_finds_nothing(command):
    folder = Path(sys.executable).parent
    program = shutil.which(command[0], path=folder)
    assert program, f"{command[0]} is not installed beside {sys.executable}"
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_has_the_code_the_migrations_and_the_stubs_once(tmp_path):
    """The images install the project as a wheel."""
    command = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    built = subprocess.run(
        [sys.executable, *command, "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    ours = {"services", "shared", "touchstone_assignment", "touchstone_statistics"}
    assert tops == ours | {"buf", "flagd", "touchstone"}
    assert not [name for name in names if name.startswith("shared/gen/")]
    assert "touchstone/events/v1/events_service_pb2_grpc.py" in names
    for folder in ("shared/state", "services/assignment/adapters", "services/results/adapters"):
        migrations = sorted((ROOT / folder / "migrations").glob("[0-9]*.py"))
        assert {f"{folder}/migrations/{path.name}" for path in migrations} <= set(names)
