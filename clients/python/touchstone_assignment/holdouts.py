"""Holdouts: units that are kept out of experiments."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING

from touchstone_assignment.bucketing import Bucketer
from touchstone_assignment.cuts import Cut, cut_of
from touchstone_assignment.decision import Decision, Reason
from touchstone_assignment.origin import Origin, origin_of, taken_over
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule, HoldoutRule


@dataclass(frozen=True, slots=True)
class CompiledHoldout:
    """A holdout ready to tell whom it keeps out, and of which experiments."""

    holdout_id: str
    unit_type: str
    layers: frozenset[str]
    experiments: frozenset[str]
    cut: Cut
    slots: int
    """The buckets below this number are held out."""
    holds: Callable[[Subject], bool]
    out: Decision
    origin: Origin

    def covers(self, experiment: "ExperimentRule") -> bool:
        """Whether it keeps its units out of this experiment."""
        if not self.layers and not self.experiments:
            return experiment.unit_type == self.unit_type
        # No experiment is in the layer of the empty name.
        return experiment.experiment in self.experiments or experiment.layer in self.layers


def compile_holdouts(
    rules: Iterable["HoldoutRule"], previous: Mapping[str, CompiledHoldout]
) -> dict[str, CompiledHoldout]:
    """The holdouts by id; ValueError when one cannot cut."""
    compiled: dict[str, CompiledHoldout] = {}
    for rule in sorted(rules, key=lambda rule: rule.holdout):
        origin, cut = origin_of([rule]), cut_of(rule.hash_version, rule.salt)
        compiled[rule.holdout] = taken_over(previous, rule.holdout, origin) or CompiledHoldout(
            holdout_id=rule.holdout,
            unit_type=rule.unit_type,
            layers=frozenset(rule.layers),
            experiments=frozenset(rule.experiments),
            cut=cut,
            slots=rule.slots,
            holds=_holds(intern(rule.unit_type), cut.bucketer(), rule.slots),
            out=Decision(None, Reason.HOLDOUT, because_of=rule.holdout),
            origin=origin,
        )
    return compiled


def _holds(unit_type: str, bucket: Bucketer, slots: int) -> Callable[[Subject], bool]:
    def holds(subject: Subject) -> bool:
        unit = subject.unit(unit_type)
        return unit is not None and bucket(unit) < slots

    return holds
