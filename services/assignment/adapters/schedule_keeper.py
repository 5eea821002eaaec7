"""Starts, ramps and stops experiments in their time, in a task of its own."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from opentelemetry import metrics
from opentelemetry.metrics import Meter
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as pb

from services.assignment.application.backend import Backend
from services.assignment.application.keep_schedule import keep_schedule
from services.assignment.domain.experiment import Experiment
from services.assignment.domain.schedule import Act, Step, next_step
from services.assignment.ports import Configuration
from shared.errors import Code, DomainError
from shared.mutations import Mutation
from shared.resource_names import resource_name
from shared.security.audit import SCHEDULE
from shared.security.caller import Call, Caller, acting_as
from shared.telemetry import METRICS

_LOG = logging.getLogger("touchstone.assignment")
STEPS_METRIC = "touchstone.assignment.schedule.steps"
RETRY = timedelta(seconds=30)
"""How long a step that could not happen waits for its next try."""
_NEVER = datetime.max.replace(tzinfo=UTC)
Due = tuple[str, str, int]
"""Project, id and version of an experiment."""
_SERVICE = "/touchstone.assignment.v1.ExperimentService/"


class ScheduleKeeper:
    """Looks every `interval_s` for steps that are due, and takes each as the RPC of its kind would.

    Any number of processes may look at one database: a step is taken on the experiment as it was
    read, so that one of them takes it and the others find it taken. A step that cannot happen is
    logged, counted and tried again after RETRY or when the experiment is changed, and holds up no
    other; one that never can is not read again before the experiment is changed. While the store is
    away nothing happens; what was missed is made up for when it is back, or after a restart.
    """

    def __init__(self, backend: Backend, interval_s: float, meter: Meter | None = None) -> None:
        self._backend = backend
        self._interval_s = interval_s
        unit, meaning = METRICS[STEPS_METRIC]
        meter = meter or metrics.get_meter("touchstone.assignment")
        self._steps = meter.create_counter(STEPS_METRIC, unit, meaning)
        self._waiting: dict[Due, datetime] = {}
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Goes to work in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def keep_once(self) -> int:
        """Takes every step that is due now; how many it took."""
        now = self._backend.clock.now()
        try:
            due = await self._backend.read(lambda c: c.experiments.due(now))
        except DomainError as error:
            if not self._away:
                _LOG.warning("schedules cannot be kept now", extra={"reason": error.reason})
            self._away = True
            return 0
        if self._away:
            _LOG.info("schedules are kept again")
        self._away = False
        waiting = {one: self._waiting.get(one, now) for one in due}
        self._waiting = {one: until for one, until in waiting.items() if until > now}
        return sum([await self._take(one, now) for one in due if one not in self._waiting])

    async def _take(self, due: Due, now: datetime) -> bool:
        """Whether a step was taken. One experiment that cannot be read or moved stops no other."""
        place = {"project": due[0], "experiment": due[1]}
        try:
            return await self._step(due, now)
        except DomainError as error:
            if error.code in (Code.ABORTED, Code.UNAVAILABLE):
                return False  # Somebody was faster, or the store is away: the next look tells.
            self._put_off(due, now, "refused")
            _LOG.warning(
                "a scheduled step cannot happen now",
                extra={**place, "reason": error.reason, "detail": error.message},
            )
        except Exception:  # noqa: BLE001  the others go on, whatever this one runs into
            self._put_off(due, now, "failed")
            _LOG.exception("a scheduled step failed", extra=place)
        return False

    def _put_off(self, due: Due, now: datetime, outcome: str) -> None:
        self._waiting[due] = now + RETRY
        self._steps.add(1, {"outcome": outcome})

    async def _step(self, due: Due, now: datetime) -> bool:
        experiment = await self._backend.read(lambda c: c.experiments.get(*due[:2]))
        step = None if experiment is None else next_step(experiment, now)
        if experiment is None or step is None:
            # As a draft whose stop has come: nothing happens to this version any more.
            self._waiting[due] = _NEVER
            return False
        await self._write(experiment, step, now)
        self._steps.add(1, {"outcome": "taken"})
        return True

    async def _write(self, experiment: Experiment, step: Step, now: datetime) -> None:
        method, request, response = _rpc(experiment, step)
        caller = Caller(experiment.project, SCHEDULE, frozenset())
        request_id = self._backend.ids.new()

        def work(configuration: Configuration) -> Message:
            keep_schedule(experiment, step, configuration, self._backend.cool_down, now)
            return response

        with acting_as(Call(caller, f"{_SERVICE}{method}", request_id, "")):
            await self._backend.write(Mutation(request, _name(experiment)), work)

    async def _run(self) -> None:
        while True:
            try:
                await self.keep_once()
            except Exception:  # noqa: BLE001  the task outlives whatever one look runs into
                _LOG.exception("keeping schedules failed")
            await asyncio.sleep(self._interval_s)


def _rpc(experiment: Experiment, step: Step) -> tuple[str, Message, Message]:
    """The RPC that would do the same: its name, its request, and an empty response."""
    name, etag = _name(experiment), experiment.etag
    if step.act is Act.START:
        start = pb.StartExperimentRequest(name=name, etag=etag)
        return "StartExperiment", start, pb.StartExperimentResponse()
    if step.act is Act.STOP:
        return (
            "StopExperiment",
            pb.StopExperimentRequest(name=name, etag=etag),
            pb.StopExperimentResponse(),
        )
    grown = experiment_pb2.Experiment(name=name, etag=etag, traffic_slots=step.traffic_slots)
    mask = FieldMask(paths=["traffic_slots"])
    update = pb.UpdateExperimentRequest(experiment=grown, update_mask=mask)
    return "UpdateExperiment", update, pb.UpdateExperimentResponse()


def _name(experiment: Experiment) -> str:
    return resource_name(experiment.project, "experiments", experiment.experiment_id)
