"""CheckService: decode, handle, encode; and the work of its operation."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import check_service_pb2 as pb
from touchstone.assignment.v1 import check_service_pb2_grpc

from services.assignment.application.assigned_sample import AssignedSample
from services.assignment.application.check_salts import check_salts
from services.assignment.application.find import find_experiment
from services.assignment.application.find_balanced_salt import (
    Covariates,
    History,
    Search,
    UnitHistory,
    candidate_salts,
    give_salt,
    require_draft,
    searched,
)
from services.assignment.domain.experiment import AssignmentSource, Experiment
from services.assignment.domain.sample_ratio import sample_ratio
from services.assignment.ports import Configuration, ConfigurationReader, ConfigurationWriter
from shared import errors
from shared.clock import Clock
from shared.ids import IdGenerator
from shared.mutations import Mutation, Mutations
from shared.operations.runner import Begin, Kind, OperationRunner
from shared.operations.task import Task
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import CALL, Call, Caller, current_caller

KIND = "find-balanced-salt"
METHOD = "/touchstone.assignment.v1.CheckService/FindBalancedSalt"
UNITS, ALPHA, CANDIDATES = 20_000, 0.001, 200
"""What is taken where the request says nothing."""
_TELL_EVERY = 10


@dataclass(frozen=True, slots=True)
class CheckServicer(check_service_pb2_grpc.CheckServiceServicer):
    """See touchstone/assignment/v1/check_service.proto."""

    reader: ConfigurationReader
    sample: AssignedSample
    mutations: Mutations
    runner: OperationRunner
    clock: Clock

    async def CheckSalts(
        self, request: pb.CheckSaltsRequest, _context: Any
    ) -> pb.CheckSaltsResponse:
        """Tests every salt and every pair of salts."""
        project = current_caller().project
        require_parent(request.parent, project)

        def work() -> pb.CheckSaltsResponse:
            with self.reader.read() as configuration:
                config = configuration.load(project)
            found = check_salts(config, request.units or UNITS, request.alpha or ALPHA)
            return pb.CheckSaltsResponse(
                salts=found.salts,
                tests=found.tests,
                findings=[
                    pb.SaltFinding(
                        first=resource_name(project, *finding.first),
                        second=resource_name(project, *finding.second) if finding.second else "",
                        statistic=finding.statistic,
                        p_value=finding.p_value,
                    )
                    for finding in found.findings
                ],
                least_p_value=found.least_p_value,
            )

        return await asyncio.to_thread(work)

    async def CheckSampleRatio(
        self, request: pb.CheckSampleRatioRequest, _context: Any
    ) -> pb.CheckSampleRatioResponse:
        """Tests the proportions of what was assigned."""
        project = current_caller().project
        experiment_id = require_id(request.experiment, project, "experiments")
        experiment = await asyncio.to_thread(self._experiment, project, experiment_id)
        if experiment.design.source is AssignmentSource.EXTERNAL:
            raise errors.wrong_state(
                f"experiment {experiment_id}",
                experiment.design.source,
                "testing what was assigned",
                "SLOTS: another system assigns this one; results test its exposures",
            )
        if experiment.design.switchback is not None:
            raise errors.wrong_state(
                f"experiment {experiment_id}",
                "a switchback",
                "testing what was assigned",
                "an experiment that splits units: all units of a window get the same variant",
            )
        assigned = self.sample.of(project, experiment_id)
        # Whose variant was given up is served nothing.
        weights = [(v.key, 0 if v.dropped else v.weight) for v in experiment.design.variants]
        found = sample_ratio(weights, assigned.counts)
        return pb.CheckSampleRatioResponse(
            config_version=assigned.config_version,
            variants=[
                pb.VariantCount(variant=v.variant, units=v.units, expected=v.expected)
                for v in found.variants
            ],
            statistic=found.statistic,
            p_value=found.p_value,
        )

    async def FindBalancedSalt(
        self, request: pb.FindBalancedSaltRequest, _context: Any
    ) -> pb.FindBalancedSaltResponse:
        """Begins a search."""
        project = current_caller().project
        experiment_id = require_id(request.experiment, project, "experiments")
        _times(request, self.clock)
        progress = pb.FindBalancedSaltProgress(
            experiment=request.experiment, candidates=request.candidates or CANDIDATES
        )

        def work() -> pb.FindBalancedSaltResponse:
            with self.reader.read() as configuration:
                require_draft(configuration, project, experiment_id)
            mutation = Mutation(request, request.experiment, request.request_id)
            return self.mutations.run(mutation, begin)

        def begin(connection: sa.Connection) -> pb.FindBalancedSaltResponse:
            operation = self.runner.begin(connection, Begin(project, KIND, request, progress))
            return pb.FindBalancedSaltResponse(operation=operation)

        answer = await asyncio.to_thread(work)
        self.runner.wake()
        return answer

    def _experiment(self, project: str, experiment_id: str) -> Experiment:
        with self.reader.read() as configuration:
            return find_experiment(configuration, project, experiment_id)


@dataclass(frozen=True, slots=True)
class BalancedSaltSearch:
    """The work of the operation. It may be begun again at any time: a draft takes another salt."""

    reader: ConfigurationReader
    writer: ConfigurationWriter
    history: UnitHistory
    clock: Clock
    ids: IdGenerator
    changed: Callable[[str], object]
    """Told of the project that has changed."""

    def kind(self) -> Kind:
        """The kind of operation; nothing is lost when it is cancelled."""
        return Kind(KIND, self.run, cancellable=True)

    def run(self, task: Task) -> pb.FindBalancedSaltResult:
        """Search, and give the draft what was found."""
        request = task.request(pb.FindBalancedSaltRequest)
        experiment_id = require_id(request.experiment, task.project, "experiments")
        with self.reader.read() as configuration:
            draft = require_draft(configuration, task.project, experiment_id)
        start, end = _times(request, self.clock)
        conversions = tuple(request.conversions)
        covariates = self.history.read(
            History(task.project, draft.design.unit_type, conversions, start, end)
        )
        salts = candidate_salts(self.ids, request.candidates or CANDIDATES)
        search = self._searched(task, request, draft, covariates, salts)
        result = _result(request, covariates, search)
        self._give(task, request, draft, result.salt)
        return result

    def _searched(
        self,
        task: Task,
        request: pb.FindBalancedSaltRequest,
        draft: Experiment,
        covariates: Covariates,
        salts: list[str],
    ) -> Search:
        last: Search | None = None
        for last in searched(draft, covariates, salts):
            if len(last.largest) % _TELL_EVERY == 0:
                task.progress(
                    pb.FindBalancedSaltProgress(
                        experiment=request.experiment,
                        units=len(covariates.units),
                        tried=len(last.largest),
                        candidates=len(salts),
                    )
                )
            task.check()
        assert last is not None, "at least one salt is tried"
        return last

    def _give(
        self, task: Task, request: pb.FindBalancedSaltRequest, draft: Experiment, salt: str
    ) -> None:
        def work(configuration: Configuration) -> pb.FindBalancedSaltResult:
            given = give_salt(draft, salt, configuration, self.clock.now)
            return pb.FindBalancedSaltResult(salt=given.design.salt)

        with _acting(task):
            self.writer.write(Mutation(request, request.experiment), work)
        self.changed(task.project)


@contextmanager
def _acting(task: Task) -> Iterator[None]:
    """What is changed in the block is recorded as done by the operation."""
    actor = Caller(task.project, f"operations/{task.operation.operation_id}", frozenset())
    token = CALL.set(Call(actor, METHOD, task.operation.operation_id, ""))
    try:
        yield
    finally:
        CALL.reset(token)


def _result(
    request: pb.FindBalancedSaltRequest, covariates: Covariates, search: Search
) -> pb.FindBalancedSaltResult:
    best = search.best
    assert best is not None, "at least one salt is tried"
    return pb.FindBalancedSaltResult(
        experiment=request.experiment,
        salt=best.salt,
        units=len(covariates.units),
        candidates=len(search.largest),
        largest_difference=float(best.differences.max()),
        median_difference=best.median,
        covariates=[
            pb.CovariateBalance(covariate=name, difference=float(difference))
            for name, difference in zip(covariates.names, best.differences, strict=True)
        ],
    )


def _times(request: pb.FindBalancedSaltRequest, clock: Clock) -> tuple[datetime, datetime]:
    start = _time("start_time", request.start_time)
    now = clock.now()
    end = _time("end_time", request.end_time) if request.HasField("end_time") else now
    if end > now:
        raise errors.invalid("end_time", end.isoformat(), f"at most now, {now.isoformat()}")
    if start >= end:
        raise errors.invalid("start_time", start.isoformat(), f"a time before {end.isoformat()}")
    return start, end


def _time(field: str, stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        allowed = "a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        raise errors.invalid(field, stamp.seconds, allowed) from error
