"""MomentsSource that keeps states: an answer costs what is new, not what there is."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import duckdb
import ibis
from ibis import ir

from services.results.adapters.lake.answer import Summed, answer
from services.results.adapters.lake.cut import data_cut
from services.results.adapters.lake.groups import ages_of
from services.results.adapters.lake.moments import LakeMoments
from services.results.adapters.lake.parts import parts_of
from services.results.adapters.live.facts import Stand
from services.results.adapters.live.rebuild import rebuild
from services.results.adapters.live.refresh import READ, refresh
from services.results.adapters.live.shelf import Shelf
from services.results.adapters.live.state import State
from services.results.domain.daily import TimeSeries
from services.results.domain.observation import Observation, Question
from services.results.domain.removed import Rows
from shared.identity.few import Few
from shared.identity.identity import Identity
from shared.identity.ownership import Ownership
from shared.lake.cut import cut_of
from shared.lake.interruption import interruptible
from shared.lake.layout import TABLES
from shared.lake.snapshot import Snapshot

_LOG = logging.getLogger(__name__)
FORMAT = "3"
"""Changes when states that were kept before must not be read any more."""
MOST_PLANS = 200
"""Questions whose queries are kept as texts, of some hundred kilobytes each."""


@dataclass(frozen=True, slots=True)
class LiveMoments:
    """See the module. What a state cannot answer is asked of the event tables: a past cut, days,
    quantiles, and clusters. Answers are the same to the last bit.
    """

    lake: LakeMoments
    shelf: Shelf
    plans: Few[str, dict[str, str]] = field(default_factory=lambda: Few(MOST_PLANS))
    """Texts of queries by question; several readers may share them."""

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See MomentsSource."""
        await self.lake.wait_until(at_least, timeout_s)

    def rows_at(self, project: str, token: str) -> Rows:
        """See MomentsSource."""
        return self.lake.rows_at(project, token)

    def observe_by_day(self, question: Question) -> TimeSeries:
        """See MomentsSource."""
        return self.lake.observe_by_day(question)

    def observe(self, question: Question) -> Observation:
        """See MomentsSource."""
        kept = tuple(measure for measure in question.measures if measure.quantile is None)
        of_state = replace(question, measures=kept)
        if question.as_of or question.clustering or not parts_of(of_state):
            return self.lake.observe(question)
        # Before the tables are read, so that what is erased meanwhile takes the state with it.
        name = self.shelf.named(name_of(of_state))
        try:
            seen = self._observe(of_state, name)
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            # A file that another process has open stays its; a damaged one is made anew next time.
            _LOG.warning("a state of results cannot be used", exc_info=True)
            if "lock" not in str(error):
                self.shelf.drop(name)
            return self.lake.observe(question)
        if len(kept) == len(question.measures):
            return seen
        return _together(question, seen, self._quantiles(question, seen))

    def _quantiles(self, question: Question, seen: Observation) -> Observation:
        of_lake = tuple(m for m in question.measures if m.quantile is not None)
        return self.lake.observe(replace(question, measures=of_lake, as_of=seen.cut.token))

    def _observe(self, question: Question, name: str) -> Observation:
        snapshot = self.lake.tables.snapshot(question.project)
        with self.shelf.use(name) as connection, interruptible(connection.interrupt):
            plans = self.plans.of(name, dict)
            state = State(ibis.duckdb.from_connection(connection), question, plans)
            connection.begin()
            try:
                self._bring_up(state, snapshot)
                seen = _answered(state, snapshot)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
        return seen

    def _bring_up(self, state: State, snapshot: Snapshot) -> None:
        """Let a state show the cut of a snapshot."""
        question, facts = state.question, state.facts()
        mark = snapshot.watermark
        with ExitStack() as stack:
            now = _Later(stack, snapshot)
            identity = self.lake.identities.of(question.project, mark, now)
            stand = _stand(snapshot, identity)
            ownership = Ownership(
                question.plan.unit_type, identity, question.stitching, as_key=True
            )
            if facts is not None and facts.stand == stand:
                return
            if facts is not None and not _follows(stand, facts.stand):
                facts = None
            new = snapshot.rows_after
            if facts is None or not refresh(state, facts, new, ownership, stand):
                rebuild(state, now, ownership, stand)


def _answered(state: State, snapshot: Snapshot) -> Observation:
    facts, question = state.facts(), state.question
    assert facts is not None
    grouped, values = state.grouped()
    nothing = tuple(None for _ in question.measures)
    summed = Summed(grouped, values, facts.scales.layouts(question), nothing)
    cut = cut_of(snapshot.watermark, "")
    data_us = facts.data_us if ages_of(question) and facts.data_us else None
    return answer(question, summed, facts.known(question), data_cut(cut, data_us))


def _follows(stand: Stand, before: Stand) -> bool:
    """Whether what is new tells the two apart: one log, and the same identities."""
    return (stand.journal_id, stand.identity) == (before.journal_id, before.identity)


def _stand(snapshot: Snapshot, identity: Identity) -> Stand:
    mark = snapshot.watermark
    return Stand(
        mark.journal_id,
        mark.position,
        {table: mark.table_versions.get(table, -1) for table in READ},
        {table: snapshot.rows(table) for table in READ},
        identity.version,
    )


def _together(question: Question, seen: Observation, quantiles: Observation) -> Observation:
    """One observation of one cut out of two, its measures in the order of the question."""
    live, others = iter(range(len(seen.sums))), iter(range(len(quantiles.sums)))
    places = [
        (quantiles, next(others)) if measure.quantile is not None else (seen, next(live))
        for measure in question.measures
    ]
    return replace(
        seen,
        sums=tuple(one.sums[at] for one, at in places),
        incomplete=tuple(one.incomplete[at] for one, at in places),
        ranked=tuple(one.ranked[at] for one, at in places),
    )


def name_of(question: Question) -> str:
    """Equal for questions that have one state."""
    plan = question.plan
    asked = (
        *(FORMAT, question.project, plan.experiment_id, plan.unit_type),
        *(tuple(arm.variant for arm in plan.arms), plan.forced, question.measures),
        *(question.stitching, question.dimensions, question.multiple_exposures),
    )
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:32]


class _Later(Mapping[str, ir.Table]):
    """All rows of the tables, opened when the first of them is asked for: mostly none is."""

    def __init__(self, stack: ExitStack, snapshot: Snapshot) -> None:
        self._stack, self._snapshot = stack, snapshot
        self._tables: Mapping[str, ir.Table] | None = None

    def __getitem__(self, name: str) -> ir.Table:
        if self._tables is None:
            self._tables = self._stack.enter_context(self._snapshot.read())
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(TABLES)

    def __len__(self) -> int:
        return len(TABLES)
