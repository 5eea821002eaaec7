"""A sample of the different units that were assigned, to test their proportions."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from touchstone_assignment.compiled import CompiledExperiment
from touchstone_assignment.decision import Decision
from touchstone_assignment.subject import Subject

from services.assignment.application.assign import Column

EVERY = 16
"""Of so many calls one is looked at: a look costs about as much as the decisions themselves."""
MOST_UNITS = 20_000
"""Different units that are kept for an experiment: enough to see a ratio that is off by a
hundredth, and less than half a megabyte."""
MOST_EXPERIMENTS = 1_000


@dataclass(slots=True)
class _Seen:
    config_version: int
    units: set[int] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assigned:
    """How many different units got each variant at a configuration version of the experiment."""

    config_version: int
    counts: Mapping[str, int]


class AssignedSample:
    """Counts different units by variant, from some of the calls. Safe to use from several threads.

    Which units are looked at depends on nothing that they got, so that their proportions are those
    of the design. Only what the split decided is counted. A new version of an experiment begins
    anew. Of too many experiments the one that was noted longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._seen: dict[tuple[str, str], _Seen] = {}

    def due(self) -> bool:
        """Whether this call is one to look at."""
        self._calls += 1
        return self._calls % EVERY == 0

    def note(
        self, project: str, experiment: tuple[str, int], served: Iterable[tuple[bytes, str]]
    ) -> None:
        """Count the units of a call that the split of an experiment, with its version, served."""
        experiment_id, version = experiment
        with self._lock:
            # Taken out and put back: the first one is the one that was noted longest ago.
            seen = self._seen.pop((project, experiment_id), None)
            if seen is None or seen.config_version < version:
                seen = _Seen(version)
            self._seen[project, experiment_id] = seen
            if len(self._seen) > MOST_EXPERIMENTS:
                del self._seen[next(iter(self._seen))]
            if seen.config_version > version:
                return
            for unit, variant in served:
                name = hash(unit)
                if name not in seen.units and len(seen.units) < MOST_UNITS:
                    seen.units.add(name)
                    seen.counts[variant] = seen.counts.get(variant, 0) + 1

    def of(self, project: str, experiment_id: str) -> Assigned:
        """What was seen; nothing at version 0 when nothing was."""
        with self._lock:
            seen = self._seen.get((project, experiment_id))
            return Assigned(seen.config_version, dict(seen.counts)) if seen else Assigned(0, {})


def note_columns(
    sample: AssignedSample,
    project: str,
    units: Sequence[Subject],
    columns: Iterable[Column[Decision]],
) -> None:
    """Note what the split served of the units of a call, an experiment a column."""
    for column in columns:
        if column.compiled is not None and column.compiled.serves:
            unit_type = column.compiled.unit_type
            split = [cell.variant if cell.reason == "SPLIT" else None for cell in column.cells]
            note_split(sample, project, column.compiled, [u.unit(unit_type) for u in units], split)


def note_split(
    sample: AssignedSample,
    project: str,
    compiled: CompiledExperiment,
    units: Iterable[bytes | None],
    split: Iterable[str | None],
) -> None:
    """Note the variant that the split served of each unit; None for what it did not serve.

    Of a switchback nothing: there a window has a variant, and no unit.
    """
    if not compiled.rule.HasField("switchback"):
        experiment = compiled.experiment_id, compiled.rule.config_version
        sample.note(project, experiment, served_by_split(units, split))


def served_by_split(
    units: Iterable[bytes | None], variants: Iterable[str | None]
) -> Iterable[tuple[bytes, str]]:
    """The units that got a variant, each with it."""
    return (
        (unit, variant)
        for unit, variant in zip(units, variants, strict=True)
        if unit is not None and variant is not None
    )
