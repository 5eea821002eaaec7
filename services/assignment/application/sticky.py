"""Around the rules: a unit keeps what it was served first, and so do the ids it goes by.

The store is asked once for a whole call, and written to once when somebody is new. When it does not
answer in time the rules decide alone: a unit then gets what its hash says, which is what it was
served first unless the experiment changed since, and nothing is kept.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from opentelemetry import metrics
from touchstone_assignment.decision import VARIANT_DROPPED, Decision, Reason

from services.assignment.domain.sticky import Ids, Kept, UnitKey, first_served, settle
from services.assignment.serving_ports import KeptUnits, StickyStore
from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.telemetry import METRICS

T = TypeVar("T")
_LOG = logging.getLogger("touchstone.assignment")
SKIPPED_METRIC = "touchstone.assignment.sticky.skipped"
# What is kept stands above the cut of the traffic, and below whoever says that nobody, or not this
# unit, may be served: the kill switch, the state, holdouts, prerequisites and forced variants.
_ABOVE = frozenset(
    (Reason.SPLIT, Reason.NOT_IN_SLOTS, Reason.NOT_IN_DOMAIN, Reason.VARIANT_DROPPED)
)
PAUSE_S = 1.0
CELLS_AT_ONCE = 2_000
"""Decisions of a call that are judged at once; more are judged in a thread, and others go on."""


@dataclass(frozen=True, slots=True)
class StickyColumn:
    """One experiment whose units keep what they were served, and what the rules say of each.

    `ids` is None for a unit that has no id that counts.
    """

    experiment_id: str
    sticky: bool
    """Whether targeting, too, counts only until the first variant."""
    outcomes: Mapping[str, Decision]
    """What its variants come to, by key; a dropped one is absent."""
    ids: Sequence[Ids | None]
    decisions: Sequence[Decision]

    def gives_way(self, decision: Decision) -> bool:
        """Whether what is kept stands above this decision of the rules."""
        return decision.reason in _ABOVE or (self.sticky and decision.reason is Reason.NOT_TARGETED)

    def kept(self, kept: Kept) -> Decision:
        """The decision for a unit that keeps what it was served."""
        outcome = self.outcomes.get(kept.variant, VARIANT_DROPPED)
        reason = outcome.reason if outcome.variant is None else Reason.STICKY
        return replace(outcome, reason=reason, tainted=kept.tainted)


class StickyKeeper:
    """Asks the store for as long as it answers within `patience_s`; after that every `pause_s`."""

    def __init__(
        self,
        store: StickyStore,
        clock: Clock,
        executor: Executor,
        *,
        patience_s: float,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._executor = executor
        self._patience_s = patience_s
        self._pause_s = pause_s
        self._away = False
        self._ask_at_s = 0.0
        self._skipped = metrics.get_meter("touchstone.assignment").create_counter(
            SKIPPED_METRIC, *METRICS[SKIPPED_METRIC]
        )

    async def apply(
        self,
        project: str,
        config_version: int,
        columns: Sequence[StickyColumn],
        *,
        keep: bool = True,
    ) -> list[Sequence[Decision]]:
        """The decisions of each column after what is kept, which is all that is served from now.

        Without `keep` they are what would be served: nobody is told, so nothing is kept.
        """
        batch = Batch(columns, config_version, self._clock.now())
        if not batch.units:
            return [column.decisions for column in columns]
        found = await self._ask(
            batch, lambda: self._store.read(project, batch.experiments, batch.units)
        )
        if found is None:
            return [column.decisions for column in columns]
        wanted = await self._judged(batch, lambda: batch.settled(found))
        if keep and wanted != found:
            kept = await self._ask(
                batch,
                lambda: self._store.keep(project, batch.experiments, batch.units, batch.settled),
            )
            wanted = wanted if kept is None else kept
        return await self._judged(batch, lambda: batch.answers(found, wanted))

    async def _judged(self, batch: "Batch", work: Callable[[], T]) -> T:
        if batch.cells <= CELLS_AT_ONCE:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _ask(self, batch: "Batch", call: Callable[[], KeptUnits]) -> KeptUnits | None:
        """What the store says; None, counted and once logged, when it is away or too slow."""
        loop = asyncio.get_running_loop()
        if self._away and loop.time() < self._ask_at_s:
            self._skipped.add(len(batch.units))
            return None
        # While it is away, one call a pause finds out whether it is back.
        self._ask_at_s = loop.time() + self._pause_s
        try:
            answer = await asyncio.wait_for(
                loop.run_in_executor(self._executor, call), self._patience_s
            )
        except (DomainError, TimeoutError) as error:
            if isinstance(error, DomainError) and error.code is not Code.UNAVAILABLE:
                raise
            self._skipped.add(len(batch.units))
            self._note_away(error)
            return None
        if self._away:
            self._away = False
            _LOG.info("what units were served first can be read again")
        return answer

    def _note_away(self, error: DomainError | TimeoutError) -> None:
        if not self._away:
            self._away = True
            detail = error.message if isinstance(error, DomainError) else "no answer in time"
            _LOG.warning(
                "what units were served first cannot be read or kept; the rules decide alone",
                extra={"detail": detail},
            )


class Batch:
    """All that one call asks of what is kept."""

    def __init__(self, columns: Sequence[StickyColumn], config_version: int, now: datetime) -> None:
        self._columns = columns
        self._config_version = config_version
        self._now = now
        self.cells = sum(len(column.ids) for column in columns)
        self.experiments = frozenset(column.experiment_id for column in columns)
        self.units: frozenset[UnitKey] = frozenset(
            key
            for column in columns
            for ids in column.ids
            if ids is not None
            for key in (ids.own, ids.anonymous)
            if key is not None
        )

    def settled(self, found: KeptUnits) -> KeptUnits:
        """All that was found, with what is to be kept after this call besides.

        Units of two ids come first, so that the order of the call's units does not matter.
        """
        wanted = dict(found)
        grouped = _by_experiment(found)
        for column in self._columns:
            kept = grouped[column.experiment_id]
            for pairs in (True, False):
                for ids, decision in zip(column.ids, column.decisions, strict=True):
                    if ids is None or not column.gives_way(decision):
                        continue
                    if (ids.own is not None and ids.anonymous is not None) is pairs:
                        settle(kept, ids, self._fresh(decision))
            wanted |= {(column.experiment_id, key): one for key, one in kept.items()}
        return wanted

    def answers(self, before: KeptUnits, after: KeptUnits) -> list[Sequence[Decision]]:
        """What each unit gets, a column each."""
        were, are = _by_experiment(before), _by_experiment(after)
        return [
            _answers(column, were[column.experiment_id], are[column.experiment_id])
            for column in self._columns
        ]

    def _fresh(self, decision: Decision) -> Kept | None:
        if decision.variant is None:
            return None
        return Kept(decision.variant, self._config_version, self._now)


def _answers(
    column: StickyColumn, were: Mapping[UnitKey, Kept], are: Mapping[UnitKey, Kept]
) -> Sequence[Decision]:
    found = []
    for ids, decision in zip(column.ids, column.decisions, strict=True):
        kept = None if ids is None else first_served(are, ids)
        if ids is None or kept is None or not column.gives_way(decision):
            found.append(decision)
        elif first_served(were, ids) is None and decision.variant == kept.variant:
            found.append(replace(decision, tainted=True) if kept.tainted else decision)
        else:
            found.append(column.kept(kept))
    return found


def _by_experiment(kept: KeptUnits) -> defaultdict[str, dict[UnitKey, Kept]]:
    """What is kept of each experiment; of one that keeps nothing, nothing."""
    found: defaultdict[str, dict[UnitKey, Kept]] = defaultdict(dict)
    for (experiment, key), one in kept.items():
        found[experiment][key] = one
    return found
