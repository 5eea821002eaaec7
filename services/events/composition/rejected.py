"""Choose the parts of the service of rejected events."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from touchstone.events.v1 import rejected_events_service_pb2_grpc

from services.events.adapters.arrow_codec import ArrowCodec
from services.events.api.intake import Intake
from services.events.api.rejected import RejectedEventsServicer
from services.events.application.group_commit import GroupCommit
from services.events.application.log_events import Logged
from services.events.application.pending import PendingBatches
from services.events.composition.core import Core
from services.events.domain.dedupe import DedupeWindow
from services.events.ports import JournalEntry
from shared.mutations import Mutations
from shared.server.run import Servicer

SERVICE = "touchstone.events.v1.RejectedEventsService"


def rejected_servicer(core: Core) -> Servicer:
    """RejectedEventsService."""
    platform = core.platform
    servicer = RejectedEventsServicer(
        core.rejected,
        Mutations(platform.database, platform.audit_keys, platform.clock),
        core.journal.id,
        _keeping_nothing(core.intake),
        lambda: storing_nothing(core.intake),
    )
    add = rejected_events_service_pb2_grpc.add_RejectedEventsServiceServicer_to_server
    return Servicer(SERVICE, servicer, add)


class _Nowhere:
    """Keeps no rejected events: they are kept already."""

    async def keep(self, project: str, rejected: Sequence[object]) -> None:
        """See Keeping: forget them."""


class _Void:
    """A journal that stores nothing."""

    id, last, usable, backlog_bytes = "", 0, True, 0

    def append(self, batches: object) -> int:
        """Store nothing."""
        del batches
        return 0

    def read(self, after: int, max_bytes: int) -> Sequence[JournalEntry]:
        """Find nothing."""
        del after, max_bytes
        return ()

    def trim(self, upto: int) -> None:
        """Forget nothing."""

    def close(self) -> None:
        """Release nothing."""


def _keeping_nothing(intake: Intake) -> Intake:
    return replace(intake, event_log=replace(intake.event_log, rejected=_Nowhere()))


@contextmanager
def storing_nothing(intake: Intake) -> Iterator[Intake]:
    """The intake as it judges, over a log without memory that ends with the block."""
    limits = intake.event_log.limits
    commits = GroupCommit(_Void(), ArrowCodec(), limits)
    log = replace(
        intake.event_log,
        window=DedupeWindow(limits.dedupe_window_days),
        commits=commits,
        rejected=_Nowhere(),
        pending=PendingBatches(lambda: 0),
    )

    def ignore(_logged: Logged) -> None:
        pass

    try:
        yield replace(intake, event_log=log, count=ignore)
    finally:
        commits.close()
