"""Rows 65 to 67: what stays erased, what a backup holds, what another version makes of it all."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import (
    backup_service_pb2,
    backup_service_pb2_grpc,
    erasure_service_pb2,
    erasure_service_pb2_grpc,
    event_pb2,
)

from shared.backup.restore import restore
from shared.clock import SystemClock
from shared.ids import RandomIds
from shared.security.bootstrap import make_operator_key
from shared.server.platform import open_platform
from shared.settings import Settings
from tests.robustness.content import Name, event_of
from tests.robustness.fault import PROJECTS, SERVICE, Fault, Play, Scene, open_scene, under_traffic
from tests.robustness.faults import GENERATED, EventsProcess, NotServingError
from tests.robustness.history import Call, History
from tests.robustness.model import Verdict, judge, kept_rejections, stored_rows
from tests.robustness.operations import wait
from tests.robustness.reader import wait_for_watermark
from tests.robustness.rows.duplicates import by_hand, names

TRAFFIC_S = 1.0
FLUSH_S = 0.4
RELEASED = "e3ee40e"
"""A commit of the version before: its tables lack the evaluations and unlinks of now."""


def _operator(scene: Scene) -> str:
    platform = open_platform(Settings(data=scene.process.data))
    try:
        made = make_operator_key(
            platform.database, platform.audit_keys, SystemClock(), RandomIds(), "operations"
        )
        return made.text
    finally:
        platform.database.close()


def _back_up(scene: Scene, key: str, backup_id: str) -> Path:
    """Make a backup and wait for it; its folder."""
    with grpc.insecure_channel(scene.process.address) as channel:
        reply = backup_service_pb2_grpc.BackupServiceStub(channel).CreateBackup(
            backup_service_pb2.CreateBackupRequest(
                parent="projects/operations", backup_id=backup_id
            ),
            timeout=20,
            metadata=(("authorization", f"Bearer {key}"),),
        )
        wait(channel, reply.operation, key)
    return scene.process.data / "backups" / backup_id


def _backups(play: Play) -> Verdict:
    """Back up while clients write, restore elsewhere, and compare with what was told before."""
    process = EventsProcess(play.folder / "data", play.module, flush_interval_s=FLUSH_S)
    scene = open_scene(play, process)
    key, history = _operator(scene), scene.history
    backups: list[tuple[Path, float, float]] = []
    try:
        scene.start_traffic(reads=False)
        for number in range(play.rounds):
            time.sleep(TRAFFIC_S)
            begun_s = time.monotonic()
            folder = _back_up(scene, key, f"backup-{number}")
            backups.append((folder, begun_s, time.monotonic()))
        scene.stop_traffic()
        scene.process.terminate()
        acknowledged = 0
        for number, (folder, begun_s, ended_s) in enumerate(backups):
            other = EventsProcess(play.folder / f"restored-{number}", SERVICE)
            restore(folder, other.data, RandomIds())
            other.start()
            other.terminate()
            known = _known(history, begun_s, ended_s)
            verdict = judge(known, other.lake, other.rejected, 1)
            acknowledged += verdict.acknowledged
            history.complaints.update(verdict.broken)
            history.examples += verdict.examples
    finally:
        scene.process.kill()
    return Verdict(
        acknowledged,
        calls=len(history.calls),
        faults=play.rounds,
        broken=dict(history.complaints),
        examples=tuple(history.examples),
    )


def _known(history: History, begun_s: float, ended_s: float) -> History:
    """Told before the backup began: it is there. Begun before it ended: it may be."""
    known = History()
    for call in history.calls:
        if call.end_s < begun_s:
            known.begin(call)
        elif call.start_s < ended_s:
            known.begin(Call(call.client, call.project, call.names, call.start_s))
    return known


def _erasures(play: Play) -> Verdict:
    """Erase units, restore a backup that is older, and look for them everywhere."""
    more = {"TOUCHSTONE_ERASURE_GRACE_S": "0"}
    scene = open_scene(play, EventsProcess(play.folder / "data", SERVICE, more=more))
    history, key = scene.history, _operator(scene)
    events = {project: names(project, "e-", 600) for project in PROJECTS}
    try:
        with by_hand(scene) as hand:
            for batch in events.values():
                hand.send(batch)
                hand.send([batch[0]._replace(event_id="bad-1"), batch[1]._replace(take=1)])
        wait_for_watermark(scene.process.lake, history.answered[-1].token)
        folder = _back_up(scene, key, "before")
        units = [event_of(name).unit for name in events["acme"][: 5 * play.rounds : 5]]
        units.append(event_of(events["acme"][1]._replace(take=1)).unit)
        for unit in units:
            _erase(scene, unit)
        scene.process.terminate()
        _complain_of_units(scene.process, units, history, "erased")
        forgets = play.module.endswith("no_ledger")
        ledger = None if forgets else scene.process.data / "erasures"
        other = EventsProcess(play.folder / "restored", SERVICE, more=more)
        restore(folder, other.data, RandomIds(), ledger)
        other.start()
        _wait_erased(other, units)
        other.terminate()
        _complain_of_units(other, units, history, "restored")
        kept = len(stored_rows(other.lake, set(PROJECTS)))
        gone = sum(event_of(name).unit in units for name in events["acme"])
        if kept != sum(map(len, events.values())) - gone:
            history.complain("lost", f"{kept} events are left, {gone} were of erased units")
    finally:
        scene.process.kill()
    broken, examples = dict(history.complaints), tuple(history.examples)
    acknowledged = sum(map(len, events.values()))
    return Verdict(acknowledged, faults=len(units), broken=broken, examples=examples)


def _erase(scene: Scene, unit: unit_pb2.UnitId) -> None:
    key = scene.target.keys["acme"]
    with grpc.insecure_channel(scene.process.address) as channel:
        reply = erasure_service_pb2_grpc.ErasureServiceStub(channel).EraseUnit(
            erasure_service_pb2.EraseUnitRequest(
                parent="projects/acme", unit=unit, reason="ticket 1"
            ),
            timeout=20,
            metadata=(("authorization", f"Bearer {key}"),),
        )
        wait(channel, reply.operation, key)


def _wait_erased(process: EventsProcess, units: list[unit_pb2.UnitId]) -> None:
    """Give it the time that the erasures of a restored ledger take."""
    end = time.monotonic() + 30
    while _found(process, units) and time.monotonic() < end:
        time.sleep(0.2)


def _found(process: EventsProcess, units: list[unit_pb2.UnitId]) -> list[str]:
    """The ids of the stored events of the units."""
    wanted = {(unit.type, unit.id) for unit in units}
    stored = stored_rows(process.lake, {"acme"})
    return [
        event_id
        for (_, event_id), rows in stored.items()
        if any((row[2], row[3]) in wanted for _, row in rows)
    ]


def _complain_of_units(
    process: EventsProcess, units: list[unit_pb2.UnitId], history: History, when: str
) -> None:
    found = _found(process, units)
    if found:
        history.complain("erased", f"{when}: {found[:3]} are there", len(found))
    for (_, event_id, _), payloads in kept_rejections(process.rejected).items():
        for unit in units:
            if any(unit.id.encode() in payload for payload in payloads):
                history.complain("erased", f"{when}: the rejected {event_id} is there")


def _upgrades(play: Play) -> Verdict:
    """Go from the version before to this one and back, again and again, while clients write."""
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        _unpack(RELEASED, tree)
        process = EventsProcess(play.folder / "data", SERVICE, tree=tree)
        scene = open_scene(play, process)
        scene.wanted = _always_known

        def change(scene: Scene) -> None:
            """Stop one version in order and start the other; the older one may refuse, in words."""
            scene.process.terminate()
            if scene.process.tree is None:
                scene.process.tree = tree
                try:
                    scene.process.start()
                except NotServingError as error:
                    if "run the newer version" not in str(error):
                        scene.history.complain("refusal", str(error))
                else:
                    return
            scene.process.tree = None
            scene.process.start()

        return under_traffic(play, change, scene, between_s=(0.5, 1.5))


def _always_known(name: Name) -> bool:
    """Whether the version before can hold the event, too. Other content under a known id is left
    out: digests of two versions cannot be compared, and count as the same.
    """
    event = event_of(name)
    later = event.HasField("evaluation")
    return (
        name.take == 0
        and not later
        and event.identify.action == event_pb2.IDENTIFY_ACTION_UNSPECIFIED
    )


def _unpack(commit: str, tree: Path) -> None:
    """The sources of a commit and their own stubs."""
    archive = tree / "archive.tar"
    with archive.open("wb") as file:
        subprocess.run(["git", "archive", commit], stdout=file, check=True, cwd=_repository())
    with tarfile.open(archive) as opened:
        opened.extractall(tree, filter="data")
    compile_stubs = [sys.executable, "protos/compile.py", "stubs", str(GENERATED)]
    subprocess.run(compile_stubs, cwd=tree, check=True, capture_output=True)


def _repository() -> Path:
    return Path(__file__).resolve().parents[3]


def lacks_history() -> str:
    """Why the version before cannot be had here."""
    command = ["git", "cat-file", "-e", f"{RELEASED}^{{commit}}"]
    try:
        done = subprocess.run(command, cwd=_repository(), capture_output=True, check=False)
    except FileNotFoundError:
        return "git is not installed"
    return "" if done.returncode == 0 else f"the history does not hold {RELEASED}"


ERASED = Fault(
    65,
    "units are erased, then an older backup is restored",
    _erasures,
    twins={"no_ledger": 1},
    rounds=4,
)
BACKUPS = Fault(
    66,
    "a backup is made while clients write, and restored elsewhere",
    _backups,
    twins={"impatient_backup": 2},
    rounds=8,
)
UPGRADES = Fault(
    67,
    "the version before and this one take turns while clients write",
    _upgrades,
    twins={},
    rounds=6,
    lacks=lacks_history,
)
