"""Inputs of a scene that experiments measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.attribution.application.calibration_ports import LiftProvenance, NoLift
from services.attribution.domain.lift import Estimate
from shared.errors import failed_precondition, limit_exceeded

MOST_COMPARISONS = 20
"""So many are read from another service for one scene."""


@dataclass(frozen=True, slots=True)
class AskedComparison:
    """Two variants of an experiment, by a metric, at a cut; the newest where `as_of` is empty."""

    project: str
    experiment_id: str
    variant: str
    control: str
    metric_id: str
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a unit of the variant did more, with its interval, whose ends may be infinite.

    `alert` says that the sizes of the arms contradict their weights.
    """

    difference: Estimate
    interval: tuple[float, float]
    units: int
    control_units: int
    provenance: LiftProvenance
    alert: bool


class Comparisons(Protocol):
    """Where comparisons are read, on behalf of the caller."""

    def comparison(self, asked: AskedComparison) -> Compared | NoLift:
        """The comparison, without taking a look.

        NoLift where the experiment, the metric or a number of it is not there. UNAVAILABLE when
        the results cannot be asked, PERMISSION_DENIED when the caller may not.
        """
        ...


@dataclass(frozen=True, slots=True)
class MeasuredInput:
    """An input of a product, and the comparison that measures it."""

    product: str
    field: str
    asked: AskedComparison


Measurements = Mapping[tuple[str, str], Compared]
"""By product and input."""


def measure_inputs(inputs: Sequence[MeasuredInput], source: Comparisons) -> Measurements:
    """Read every comparison once; FAILED_PRECONDITION for one that says nothing.

    RESOURCE_EXHAUSTED for more than `MOST_COMPARISONS`.
    """
    asked = dict.fromkeys(each.asked for each in inputs)
    if len(asked) > MOST_COMPARISONS:
        raise limit_exceeded("comparisons of one scene", len(asked), MOST_COMPARISONS)
    found = {one: source.comparison(one) for one in asked}
    measured: dict[tuple[str, str], Compared] = {}
    for each in inputs:
        compared = found[each.asked]
        if isinstance(compared, NoLift):
            place = f"products.{each.product}.{each.field}.comparison"
            raise failed_precondition(
                "TOO_LITTLE_DATA", f"{place} measures nothing: {compared.why}"
            )
        measured[each.product, each.field] = compared
    return measured
