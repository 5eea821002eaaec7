"""What keeps groupings and schedules of reports, over the parts that the whole service shares."""

import asyncio
from dataclasses import dataclass

from touchstone.attribution.v1 import (
    grouping_service_pb2,
    grouping_service_pb2_grpc,
    schedule_service_pb2,
    schedule_service_pb2_grpc,
)

from services.attribution.adapters.groupings_sql import SqlGroupings, migrate_groupings
from services.attribution.adapters.refresh_keeper import Kept, RefreshKeeper
from services.attribution.adapters.schedules_sql import SqlSchedules, migrate_schedules
from services.attribution.api.channel_groupings import ChannelGroupingServicer, KeptGroupings
from services.attribution.api.schedules import ReportScheduleServicer, begin_runs
from services.attribution.limits import KEPT_LIMITS, KeptLimits
from services.attribution.ports import Reports
from shared.mutations import Mutations
from shared.operations.runner import OperationRunner
from shared.server.run import Platform, Servicer
from shared.state.database import Database


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What is served, and what runs in the background: the operations, and what begins some."""

    servicers: list[Servicer]
    keeper: RefreshKeeper
    runner: OperationRunner

    async def start(self) -> None:
        """Go to work, with the operations that were left unfinished."""
        await asyncio.to_thread(self.runner.start)
        await self.keeper.start()

    async def stop(self) -> None:
        """Begin nothing more, and interrupt what runs; it goes on after the next start."""
        await self.keeper.stop()
        await asyncio.to_thread(self.runner.close)


def kept_groupings(database: Database) -> KeptGroupings:
    """The groupings that definitions name; with their tables and those of schedules."""
    migrate_groupings(database)
    migrate_schedules(database)
    return KeptGroupings(SqlGroupings(database))


def scheduling(
    platform: Platform,
    mutations: Mutations,
    groupings: KeptGroupings,
    reports: Reports,
    runner: OperationRunner,
    most: KeptLimits = KEPT_LIMITS,
) -> Scheduling:
    """The services of groupings and of schedules, and the keeper of schedules."""
    schedules = SqlSchedules(platform.database)
    keeper = RefreshKeeper(
        platform.database,
        Kept(schedules, groupings.groupings, reports),
        mutations,
        begin_runs(runner),
        (platform.clock, platform.ids),
    )
    grouping = ChannelGroupingServicer(groupings.groupings, mutations, platform.clock, most)
    schedule = ReportScheduleServicer(schedules, groupings, mutations, platform.clock, most)
    return Scheduling(
        [
            Servicer(
                grouping_service_pb2.DESCRIPTOR.services_by_name[
                    "ChannelGroupingService"
                ].full_name,
                grouping,
                grouping_service_pb2_grpc.add_ChannelGroupingServiceServicer_to_server,
            ),
            Servicer(
                schedule_service_pb2.DESCRIPTOR.services_by_name["ReportScheduleService"].full_name,
                schedule,
                schedule_service_pb2_grpc.add_ReportScheduleServiceServicer_to_server,
            ),
        ],
        keeper,
        runner,
    )
