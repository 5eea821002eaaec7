"""A domain: a share of a layer's units that layers of its own cut again."""

from dataclasses import dataclass

from services.assignment.domain.resource import Resource


@dataclass(frozen=True, slots=True)
class Domain(Resource):
    """Holds `traffic_slots` slots of `layer` until it is released; its unit type is the layer's.

    Which slots these are stands in the layer's ledger.
    """

    layer: str
    traffic_slots: int
    unit_type: str
    display_name: str = ""
    released: bool = False
