"""The units of an experiment by what they saw in others that run at the same time.

The variants of the others become properties of the experiment's exposures, so that the one query of
results cuts its units into slices by them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ibis
from ibis import ir

from services.results.adapters.lake.moments import LakeMoments
from services.results.domain.observation import ExperimentPlan, Observation, Question, Slice
from shared.identity.reader import IdentityReader
from shared.lake.cut import cut_of
from shared.lake.filters import PROPERTIES
from shared.lake.snapshot import EventTables, Snapshot
from shared.lake.watermark import Watermark


@dataclass(frozen=True, slots=True)
class LakeCrossed:
    """See CrossedSource."""

    tables: EventTables
    identities: IdentityReader

    def observe_crossed(self, question: Question, others: Sequence[ExperimentPlan]) -> Observation:
        """See CrossedSource."""
        crossing = _Crossing(self.tables, tuple(others), question.as_of)
        lake = LakeMoments(crossing, self.identities)
        names = {f"{PROPERTIES}{_key(place)}": plan for place, plan in enumerate(others)}
        seen = lake.observe(replace(question, dimensions=tuple(names)))
        return replace(seen, slices=tuple(_named(one, names) for one in seen.slices))


def _key(place: int) -> str:
    return f"e{place}"


def _named(one: Slice, names: Mapping[str, ExperimentPlan]) -> Slice:
    plan = names.get(one.dimension)
    if plan is None:
        return one
    value = None if one.value is None else plan.arms[int(one.value)].variant
    return replace(one, dimension=plan.experiment_id, value=value)


@dataclass(frozen=True, slots=True)
class _Crossing:
    """EventTables whose exposures say what their unit had seen in other experiments at a cut."""

    tables: EventTables
    others: tuple[ExperimentPlan, ...]
    as_of: str

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See EventTables."""
        await self.tables.wait_until(at_least, timeout_s)

    def snapshot(self, project: str) -> Snapshot:
        """See EventTables."""
        snapshot = self.tables.snapshot(project)
        position = cut_of(snapshot.watermark, self.as_of).position
        return _CrossingSnapshot(snapshot, self.others, position)


@dataclass(frozen=True, slots=True)
class _CrossingSnapshot:
    snapshot: Snapshot
    others: tuple[ExperimentPlan, ...]
    position: int

    @property
    def watermark(self) -> Watermark:
        """See Snapshot."""
        return self.snapshot.watermark

    @contextmanager
    def read(self) -> Iterator[Mapping[str, ir.Table]]:
        """See Snapshot."""
        with self.snapshot.read() as tables:
            yield {name: tables[name] for name in tables} | {
                "exposures": _crossed(_until(tables["exposures"], self.position), self.others)
            }

    def rows(self, name: str) -> int:
        """See Snapshot."""
        return self.snapshot.rows(name)

    def rows_after(self, name: str, position: int) -> str:
        """See Snapshot; exposures as they were sent."""
        return self.snapshot.rows_after(name, position)


def _until(exposures: ir.Table, position: int) -> ir.Table:
    return exposures.filter(exposures.position <= position)


def _crossed(exposures: ir.Table, others: Sequence[ExperimentPlan]) -> ir.Table:
    """Exposures whose properties are, for each other experiment, the place of the one variant that
    the same id saw there; none where it saw no variant of the plan, or several.
    """
    arms = {}
    for place, plan in enumerate(others):
        own = exposures.experiment == plan.experiment_id
        arm = exposures.variant.cases(*((one.variant, n) for n, one in enumerate(plan.arms)))
        arms[f"low_{place}"] = arm.min(where=own)
        arms[f"high_{place}"] = arm.max(where=own)
    seen = exposures.group_by(other_key=exposures.unit_key).aggregate(**arms)
    text = ibis.literal("{")
    for place in range(len(others)):
        low, high = seen[f"low_{place}"], seen[f"high_{place}"]
        value = (low == high).ifelse('"' + low.cast("string") + '"', "null").fill_null("null")
        comma = "," if place else ""
        text = text + f'{comma}"{_key(place)}":' + value
    told = seen.select("other_key", crossed=text + "}")
    joined = exposures.left_join(told, exposures.unit_key == told.other_key)
    return joined.mutate(properties=joined.crossed).drop("other_key", "crossed")
