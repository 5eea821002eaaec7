"""The parts of AssignmentService: what decides, what it remembers, and who watches it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from touchstone.assignment.v1 import assignment_service_pb2_grpc

from services.assignment.adapters.disk_id_lists import DiskIdLists
from services.assignment.adapters.disk_snapshots import DiskRulesets
from services.assignment.adapters.poller import SnapshotPoller
from services.assignment.adapters.sql_id_lists import SqlIdLists
from services.assignment.adapters.sql_sticky import SqlStickyStore
from services.assignment.api.assignment import AssignmentServicer, Deciding, rules
from services.assignment.application.assigned_sample import AssignedSample
from services.assignment.application.id_sets import IdSets
from services.assignment.application.keep_rulesets import RulesetKeeper
from services.assignment.application.replay import Replays
from services.assignment.application.snapshots import Snapshots
from services.assignment.application.sticky import StickyKeeper
from services.assignment.application.watch import ConfigFeed
from services.assignment.ports import ConfigurationReader
from services.assignment.settings import Settings
from services.assignment.wire import encode_decisions
from shared.server.run import Platform, Servicer

_STICKY_THREADS = 8


@dataclass(frozen=True, slots=True)
class Assigning:
    """What decides, and what keeps it fresh."""

    deciding: Deciding
    poller: SnapshotPoller
    threads: ThreadPoolExecutor

    @property
    def servicer(self) -> Servicer:
        """AssignmentService over it."""
        return Servicer(
            "touchstone.assignment.v1.AssignmentService",
            AssignmentServicer(self.deciding),
            assignment_service_pb2_grpc.add_AssignmentServiceServicer_to_server,
            rules(),
        )

    async def start(self) -> None:
        """Loads what there is."""
        self.deciding.feed.start()
        await self.poller.start()

    async def stop(self) -> None:
        """Ends what runs in the background, without waiting for a store that hangs."""
        await self.poller.stop()
        self.threads.shutdown(wait=False, cancel_futures=True)


def open_assigning(
    settings: Settings,
    platform: Platform,
    reader: ConfigurationReader,
    sample: AssignedSample,
    prepare: Callable[[], None] | None = None,
) -> Assigning:
    """Everything between the store, which `prepare` makes ready when it is not, and decisions."""
    lists = DiskIdLists(SqlIdLists(platform.database), settings.rulesets_path / "lists")
    id_sets = IdSets(lists)
    snapshots = Snapshots(reader, platform.clock, encode_decisions.description, id_sets)
    threads = ThreadPoolExecutor(_STICKY_THREADS, thread_name_prefix="sticky")
    deciding = Deciding(
        snapshots=snapshots,
        replays=Replays(reader, snapshots, encode_decisions.description, id_sets),
        keeper=StickyKeeper(
            SqlStickyStore(platform.database),
            platform.clock,
            threads,
            patience_s=settings.assignment_sticky_wait_s,
        ),
        feed=ConfigFeed(snapshots),
        id_lists=lists,
        sample=sample,
        clock=platform.clock,
    )
    poller = SnapshotPoller(
        snapshots,
        settings.assignment_poll_s,
        settings.assignment_stale_s,
        RulesetKeeper(snapshots, DiskRulesets(settings.rulesets_path)),
        prepare,
    )
    return Assigning(deciding, poller, threads)
