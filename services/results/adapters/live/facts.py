"""What is known of a state besides its tables: up to where it goes, and how it counts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from services.results.adapters.lake.answer import Known
from services.results.adapters.lake.columns import Scale, Scales
from services.results.adapters.lake.events import Catalogue, Peaks
from services.results.adapters.lake.parts import parts_of
from services.results.adapters.lake.reading import exponents
from services.results.adapters.lake.seen import Seen
from services.results.adapters.lake.values import Reading
from services.results.domain.measure import ColumnRole
from services.results.domain.observation import Links, Question

Sizes = Mapping[str, float]
"""The largest number in size of each part of the units that has no bound, by its column."""


@dataclass(frozen=True, slots=True)
class Stand:
    """The cut that a state shows: of the tables their versions and how many rows they had."""

    journal_id: str
    position: int
    versions: Mapping[str, int]
    rows: Mapping[str, int]
    identity: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything of a state that is no row.

    `data_us` is when the last event was received, `peaks` are the largest values of events in
    size by their source and `sizes` those of units, and `scales` say how the numbers of units
    became the whole numbers that are summed up.
    """

    stand: Stand
    seen: Seen
    ambiguous_exposures: int
    ambiguous_events: int
    data_us: int
    peaks: Peaks
    sizes: Sizes
    scales: Scales

    def reading(self, question: Question) -> Reading:
        """How events become numbers."""
        parts = parts_of(question)
        catalogue = Catalogue.of(parts)
        return Reading(parts, catalogue, exponents(self.peaks, catalogue))

    def known(self, question: Question) -> Known:
        """What an answer says besides sums."""
        ambiguous = (self.ambiguous_exposures, self.ambiguous_events)
        return Known(self.seen, Links(self.stand.identity, question.stitching, *ambiguous))

    def encode(self) -> str:
        """As text; `decode` gives the same again."""
        fields = asdict(self)
        caps = [[m, role.value, cap] for (m, role), cap in self.scales.caps.items()]
        fields["scales"] = {"scales": fields["scales"]["scales"], "caps": caps}
        return json.dumps(fields)

    @staticmethod
    def decode(text: str, question: Question) -> "Facts":
        """The facts of a question out of what `encode` made."""
        fields = json.loads(text)
        of_scales, seen = fields.pop("scales"), fields.pop("seen")
        fields["peaks"] = tuple(fields["peaks"])
        scales = Scales(
            parts_of(question),
            tuple(Scale(**scale) for scale in of_scales["scales"]),
            {(m, ColumnRole(role)): cap for m, role, cap in of_scales["caps"]},
        )
        return Facts(
            stand=Stand(**fields.pop("stand")),
            seen=Seen(**(seen | {"several": tuple(seen["several"])})),
            scales=scales,
            **fields,
        )
