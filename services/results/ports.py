"""What results need from the outside."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.results.domain.analysis_plan import StoredPlan
from services.results.domain.daily import TimeSeries
from services.results.domain.look import Cut, Look, LookKey
from services.results.domain.measure import Measure
from services.results.domain.metric import Metric, MetricDefinition
from services.results.domain.null_experiment import UnitRows
from services.results.domain.observation import ExperimentPlan, Observation, Question
from services.results.domain.planning import Past, Population
from services.results.domain.removed import Rows
from shared.mutations import Mutation

M = TypeVar("M", bound=Message)


class ExperimentSource(Protocol):
    """Where the plans of experiments come from."""

    def experiment(self, project: str, experiment_id: str) -> ExperimentPlan:
        """The plan as it is now, read with the rights of the current caller.

        NOT_FOUND when the project has no such experiment or the caller may not see it;
        UNAVAILABLE when the source does not answer.
        """
        ...

    def require(self, project: str, experiment_id: str) -> None:
        """Return when there is such an experiment, whatever its state; errors as above."""
        ...


@dataclass(frozen=True, slots=True)
class BanditExperiment:
    """The state of an experiment whose weights follow the evidence, and what is given up of it."""

    etag: str
    dropped: frozenset[str]


@dataclass(frozen=True, slots=True)
class Handover:
    """How weights are handed over: only if the experiment still has the etag, once for a request
    id, or only to be checked.
    """

    etag: str = ""
    request_id: str = ""
    validate_only: bool = False


class Bandits(Protocol):
    """Where bandits are, and where their weights go."""

    def bandit(self, project: str, experiment_id: str) -> BanditExperiment:
        """The experiment as it is now, read with the rights of the current caller.

        FAILED_PRECONDITION for one whose weights are fixed; otherwise as ExperimentSource.
        """
        ...

    def hand_over(
        self, project: str, experiment_id: str, weights: Mapping[str, int], how: Handover
    ) -> None:
        """Set the weight of every variant with the rights of the current caller.

        ABORTED when the experiment has another etag, FAILED_PRECONDITION when it is over,
        INVALID_ARGUMENT for a request id that was used for something else. A repeated request id
        changes nothing again. What is done is in the audit log of the assignment service.
        """
        ...


class ExperimentCatalogue(Protocol):
    """Which experiments there are."""

    def running(self, project: str) -> Sequence[ExperimentPlan]:
        """The plans of those that run and compare something, newest first, without forced units.

        Read with the rights of the current caller; UNAVAILABLE when the source does not answer.
        """
        ...

    def finished(self, project: str) -> Sequence[ExperimentPlan]:
        """Likewise those that were stopped, archived or not."""
        ...


class CrossedSource(Protocol):
    """Where units come from by what they saw in several experiments."""

    def observe_crossed(self, question: Question, others: Sequence[ExperimentPlan]) -> Observation:
        """As MomentsSource.observe, with the dimensions given by the other experiments: a
        slice has as its dimension the id of one and as its value the one variant that a unit saw
        there, None for no variant, or several. At most 10 others, with at most 40 variants each.
        Of ids that are linked, that counts which was exposed first.
        """
        ...


class MomentsSource(Protocol):
    """Where the sums over units come from."""

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """Return when what `observe` sees covers the consistency token (empty: at once).

        UNAVAILABLE after `timeout_s`, INVALID_ARGUMENT for a token that is malformed or of another
        log, RESOURCE_EXHAUSTED when too many wait already. Waiting holds no thread.
        """
        ...

    def observe(self, question: Question) -> Observation:
        """Sums over the units of each arm, from one cut of the event log.

        A unit belongs to the arm of its exposures of the experiment; seen in several arms, it
        belongs to none, or to the first where the question says so. Events count for the unit of
        the experiment's unit type that they were logged under or, failing that, linked to by the
        event itself or, failing that, by the one identity that holds one such unit; where it holds
        several, the event is counted as ambiguous and left out. A unit's events count from its
        first exposure on. A unit without events counts as zero. The same cut and the same identity
        policy give the same answer to the last bit, in whatever order the events arrived.

        With `as_of` the cut is the one that the token names, whatever came later: UNAVAILABLE for
        one that is not there yet, INVALID_ARGUMENT for one of another log. What was erased since,
        or removed by retention, is in no cut any more.
        """
        ...

    def rows_at(self, project: str, token: str) -> Rows:
        """How many exposures and conversions of the project the cut of a token holds by now."""
        ...

    def observe_by_day(self, question: Question) -> TimeSeries:
        """Sums over the units of each arm at the end of each day, from one cut of the event log.

        Units and events as for `observe`, without slices. The last day holds what `observe` gives
        of the measures that add up from day to day; the others are absent.
        """
        ...


class HistorySource(Protocol):
    """Where the past comes from that stands for what is to come."""

    def of_population(
        self, project: str, population: Population, measures: Sequence[Measure]
    ) -> Past:
        """The units of a population as one arm, each counted from its first event of it on.

        Events count for units, and cuts are named, as in MomentsSource.
        """
        ...

    def of_experiment(
        self, project: str, plan: ExperimentPlan, measures: Sequence[Measure]
    ) -> Past:
        """The arms of an experiment; INVALID_ARGUMENT when new units came on over 50 days."""
        ...

    def rows(
        self, project: str, history: Population | ExperimentPlan, measure: Measure, most: int
    ) -> UnitRows:
        """The numbers of single units: of a population, or of the control of an experiment.

        Of more than `most` units that count a sample, the same one for the same cut; not for
        quantiles.
        """
        ...


class MetricStore(Protocol):
    """The metric definitions of all projects, inside one transaction.

    Ids are compared exactly. What a project does not have is absent, whatever others have.
    """

    def get(self, project: str, metric_id: str) -> Metric | None:
        """The metric as it is now, archived or not, or None."""
        ...

    def insert(self, metric: Metric) -> None:
        """Keep a new metric; ALREADY_EXISTS when the id is taken, archived or not."""
        ...

    def replace(self, old: Metric, new: Metric) -> None:
        """Put `new` in the place of `old`; ABORTED when what is stored is not `old` any more.

        The definition of every version that ever was is kept.
        """
        ...

    def page(self, project: str, after: str, limit: int, show_archived: bool) -> Sequence[Metric]:
        """At most `limit` metrics with ids above `after`, ascending by code point."""
        ...

    def definition(self, project: str, metric_id: str, version: int) -> MetricDefinition | None:
        """The definition as it was at a version, or None where there was no such version."""
        ...

    def versions(
        self, project: str, metric_id: str, before: int, limit: int
    ) -> Sequence[tuple[int, MetricDefinition]]:
        """At most `limit` versions below `before` with their numbers, newest first."""
        ...


class MetricReader(Protocol):
    """Opens read transactions."""

    def read(self) -> AbstractContextManager[MetricStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...


class MetricWriter(Protocol):
    """Runs changes for the caller of the current RPC."""

    def write(self, mutation: Mutation, work: Callable[[MetricStore], M]) -> M:
        """Do `work` in one transaction with its audit entry, all or nothing.

        A repeated request id is answered with the first response; `validate_only` undoes the work.
        """
        ...


class PlanStore(Protocol):
    """The analysis plans and the looks of all projects, inside one transaction.

    Ids are compared exactly. Versions and looks are added, none is changed.
    """

    def current(self, project: str, experiment_id: str) -> StoredPlan:
        """The newest version; version 0, the default, where nobody made one."""
        ...

    def at(self, project: str, experiment_id: str, version: int) -> StoredPlan | None:
        """A version as it was made, or None where there was none. Version 0 always is."""
        ...

    def lock(self, project: str, experiment_id: str) -> None:
        """Keep other transactions from locking the same experiment until this one ends."""
        ...

    def add(self, project: str, experiment_id: str, new: StoredPlan) -> None:
        """Keep the version behind the newest; ABORTED when another came in between."""
        ...

    def looks(self, project: str, experiment_id: str) -> Mapping[LookKey, Sequence[Look]]:
        """Every look that was taken at an experiment, ascending by number for each comparison."""
        ...

    def add_looks(self, taken: Sequence[Look]) -> None:
        """Keep new looks; ABORTED when one with the same key and number is kept already."""
        ...

    def finished(self, project: str, before: Cut) -> Sequence[Look]:
        """Of every comparison of every experiment the first look at its planned end, taken at an
        earlier cut of the same log than `before`; by experiment, metric and variant.
        """
        ...

    def rows_at(self, project: str, cut: Cut) -> Rows | None:
        """What was noted of a cut; None for none, and for one that was noted too long ago."""
        ...

    def note_rows(self, project: str, cut: Cut, rows: Rows) -> None:
        """Note what a cut holds, unless that was done already; keeps the newest 20,000 cuts of the
        project.
        """
        ...

    def page_of_looks(
        self, project: str, experiment_id: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[Look]:
        """At most `limit` looks behind (metric, variant, number), ascending in that order."""
        ...


class PlanReader(Protocol):
    """Opens transactions on the plans."""

    def read(self) -> AbstractContextManager[PlanStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...

    def begin(self) -> AbstractContextManager[PlanStore]:
        """A transaction that is kept, all of it or nothing, when its block ends well."""
        ...


class PlanWriter(Protocol):
    """Runs changes of plans for the caller of the current RPC."""

    def write(self, mutation: Mutation, work: Callable[[PlanStore], M]) -> M:
        """Do `work` in one transaction with its audit entry, as a MetricWriter does."""
        ...
