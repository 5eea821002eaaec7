"""The parts of CheckService, and what runs its operations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from touchstone.assignment.v1 import check_service_pb2_grpc

from services.assignment.api.checks import BalancedSaltSearch, CheckServicer
from services.assignment.application.assigned_sample import AssignedSample
from services.assignment.application.find_balanced_salt import Covariates, History
from services.assignment.ports import ConfigurationReader, ConfigurationWriter
from shared.mutations import Mutations
from shared.operations.runner import OperationRunner
from shared.operations.servicer import operations_servicer
from shared.server.run import Platform, Servicer

_THREADS, _MEMORY_MB = 1, 1024


@dataclass(frozen=True, slots=True)
class _History:
    """The event tables, whose engine is loaded when it is first asked for: most never ask."""

    lake: Path

    def read(self, history: History) -> Covariates:
        """See UnitHistory."""
        from services.assignment.adapters.lake_covariates import LakeHistory
        from shared.lake.snapshot import EngineLimits, LakeEventTables

        tables = LakeEventTables(self.lake, EngineLimits(_THREADS, _MEMORY_MB))
        return LakeHistory(tables).read(history)


@dataclass(frozen=True, slots=True)
class Checks:
    """CheckService and the operations of this process."""

    servicers: list[Servicer]
    runner: OperationRunner


@dataclass(frozen=True, slots=True)
class CheckedStore:
    """The configuration that is checked, and who is told when a check changes it."""

    reader: ConfigurationReader
    writer: ConfigurationWriter
    changed: Callable[[str], object]


def open_checks(
    platform: Platform,
    mutations: Mutations,
    store: CheckedStore,
    sample: AssignedSample,
    lake: Path,
) -> Checks:
    """Several processes may work on the operations: a lease says which does.

    The database needs `migrate_operations` before the runner starts.
    """
    search = BalancedSaltSearch(
        reader=store.reader,
        writer=store.writer,
        history=_History(lake),
        clock=platform.clock,
        ids=platform.ids,
        changed=store.changed,
    )
    runner = OperationRunner(platform.database, platform.clock, platform.ids, [search.kind()])
    servicer = CheckServicer(store.reader, sample, mutations, runner, platform.clock)
    checks = Servicer(
        "touchstone.assignment.v1.CheckService",
        servicer,
        check_service_pb2_grpc.add_CheckServiceServicer_to_server,
    )
    return Checks([checks, operations_servicer(platform, mutations, runner)], runner)
