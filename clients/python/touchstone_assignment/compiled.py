"""A ruleset ready to decide."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from touchstone_assignment import explain, parameters
from touchstone_assignment.audiences import AudienceBook
from touchstone_assignment.decision import UNKNOWN_EXPERIMENT, Decision, Trace
from touchstone_assignment.holders import Holders
from touchstone_assignment.holdouts import CompiledHoldout
from touchstone_assignment.layers import CompiledLayer
from touchstone_assignment.origin import Origin
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule


@dataclass(frozen=True, slots=True)
class CompiledExperiment:
    """One experiment ready to decide."""

    experiment_id: str
    rule: "ExperimentRule"
    unit_type: str
    layer: CompiledLayer | None
    decide: Callable[[Subject], Decision]
    metadata: Mapping[str, str | int | float | bool]
    """What goes with every decision: scalars only, as flags have them."""
    sets: Mapping[str, Mapping[str, object]]
    """The values of the layer's parameters by variant and key."""
    serves: bool
    """Whether a unit can get a variant here without being forced."""
    origin: Origin


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Everything that one project's decisions need, at one configuration version.

    Every method takes a subject whose ids are text; ValueError when an id cannot be a key (see
    `unit_bytes`).
    """

    project: str
    config_version: int
    experiments: Mapping[str, CompiledExperiment]
    layers: Mapping[str, CompiledLayer]
    holdouts: Mapping[str, CompiledHoldout]
    audiences: AudienceBook
    holders: Mapping[str, Holders]
    """Who holds the slots, by layer."""
    parameter_rules: Mapping[str, parameters.Sources]
    """Where the values of parameters come from, by their keys."""
    forcing: Mapping[str, tuple[str, ...]]
    """The experiments that force variants, by the layers that set parameters."""
    plans: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    """How `bulk` decides experiments for many units at once: made by the first call for each."""

    def decide(self, experiment_id: str, subject: Subject) -> Decision:
        """What the subject gets in an experiment, and why."""
        compiled = self.experiments.get(experiment_id)
        return UNKNOWN_EXPERIMENT if compiled is None else compiled.decide(subject)

    def explain(self, experiment_id: str, subject: Subject) -> Trace:
        """The same decision with what led to it."""
        return explain.trace(self, experiment_id, subject)

    def held_out(self, subject: Subject) -> tuple[str, ...]:
        """The ids of the holdouts that keep the subject out of what they cover, in their order."""
        return tuple(key for key, holdout in self.holdouts.items() if holdout.holds(subject))

    def parameters(
        self, subject: Subject, keys: Iterable[str] = ()
    ) -> dict[str, parameters.ParameterDecision]:
        """The values of these parameters; none named: of all for whose units the subject has ids.

        A key that no layer has is left out.
        """
        return parameters.resolve(self, subject, keys)

    def member(self, audience_id: str, subject: Subject) -> bool:
        """Whether the subject is in an audience; nobody is in one that does not exist."""
        return self.audiences.member(audience_id, subject)
