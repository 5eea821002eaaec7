"""Put an observation together from counts, sums and what else is known."""

from dataclasses import dataclass

from services.results.adapters.lake.columns import Layout
from services.results.adapters.lake.groups import Grouped, Values, incomplete, measured, slices_of
from services.results.adapters.lake.seen import Seen
from services.results.domain.clustering import Clustered
from services.results.domain.observation import DataCut, Links, Observation, Question
from services.results.domain.ordered import Ranked


@dataclass(frozen=True, slots=True)
class Known:
    """What is counted of an experiment besides the units of its arms."""

    seen: Seen
    links: Links
    unclustered: int = 0
    assigned: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Summed:
    """Counts and sums by slot and arm, what the slots stand for, and how columns were made."""

    grouped: Grouped
    values: Values
    layouts: tuple[Layout, ...] = ()
    ranked: tuple[Ranked | None, ...] = ()
    clusters: tuple[Clustered, ...] = ()


def answer(question: Question, summed: Summed, known: Known, cut: DataCut) -> Observation:
    """The observation of a question."""
    return Observation(
        slices=slices_of(summed.grouped, summed.values, question),
        sums=measured(summed.grouped, summed.values, question, summed.layouts),
        multiply_exposed=known.seen.several,
        unknown_variant_exposures=known.seen.strangers,
        cut=cut,
        links=known.links,
        forced_units=known.seen.forced,
        incomplete=incomplete(summed.grouped, question),
        ranked=summed.ranked,
        clusters=summed.clusters,
        unclustered=known.unclustered,
        assigned=known.assigned,
    )
