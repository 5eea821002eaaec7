"""From versioned configuration to closures that decide in memory.

The order of decision, in which a later step never overrides an earlier one:

1. kill switch and forced variants  2. holdout  3. prerequisites  4. targeting
5. layer slot: does the experiment own the unit's slot?  6. split: which variant?

Before all of them stands the state: only a RUNNING experiment reaches the steps. What a step can
decide at compile time it decides there (a whole layer needs no slot hash), so that the closure
holds only what depends on the unit. Steps 1 to 4 narrow who reaches 5 and never change the
buckets of 5 and 6.

A paused experiment serves no variant to anyone, enrolled or not, and so does a stopped one: the
caller's default is what everybody gets, and units come back to their own variant on resuming.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from touchstone_assignment.bucketing import Bucketer, bucketer, unit_bytes

from services.assignment.domain.decision import Decision, Reason
from services.assignment.domain.experiment import (
    TOTAL_WEIGHT,
    AssignmentSource,
    Design,
    Experiment,
    State,
)
from services.assignment.domain.layer import TOTAL_SLOTS, Layer

Decide = Callable[[bytes], Decision]
"""From a unit as `unit_bytes` gives it to its decision."""

Describe = Callable[[Experiment], bytes]
"""From an experiment to what replies say of it, as they send it."""

NOT_IN_SLOTS = Decision(None, Reason.NOT_IN_SLOTS)
NOT_RUNNING = Decision(None, Reason.NOT_RUNNING)
EXTERNAL = Decision(None, Reason.EXTERNAL)
MISSING_UNIT = Decision(None, Reason.MISSING_UNIT)
UNKNOWN_EXPERIMENT = Decision(None, Reason.UNKNOWN_EXPERIMENT)


@dataclass(frozen=True, slots=True)
class CompiledExperiment:
    """One experiment ready to decide; `description` is what every reply says of it, encoded."""

    experiment: Experiment
    layer: Layer | None
    unit_type: str
    decide: Decide
    description: bytes

    @property
    def serves(self) -> bool:
        """Whether a unit can get a variant here at all."""
        return (
            self.experiment.state is State.RUNNING
            and self.experiment.design.source is AssignmentSource.SLOTS
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one project's decisions need, at one configuration version."""

    config_version: int
    experiments: Mapping[str, CompiledExperiment]

    def decide(self, experiment_id: str, units: Mapping[str, str]) -> Decision:
        """The decision for one unit, given its raw ids by type.

        ValueError when the id cannot be a key (see `unit_bytes`).
        """
        compiled = self.experiments.get(experiment_id)
        if compiled is None:
            return UNKNOWN_EXPERIMENT
        unit = units.get(compiled.unit_type)
        return MISSING_UNIT if unit is None else compiled.decide(unit_bytes(unit))


def undescribed(_experiment: Experiment) -> bytes:
    """For decisions that nobody is told of in a reply."""
    return b""


def compile_snapshot(
    config_version: int,
    experiments: Mapping[str, Experiment],
    layers: Mapping[str, Layer],
    previous: Snapshot | None = None,
    describe: Describe = undescribed,
) -> Snapshot:
    """Compile every experiment, taking over from `previous` what has not changed.

    `layers` holds at least the layers that running experiments name. Descriptions are made here,
    once: payloads are large, and a call must not pay for them again.
    """
    known = previous.experiments if previous else {}
    compiled: dict[str, CompiledExperiment] = {}
    for key, experiment in experiments.items():
        layer = layers.get(experiment.design.layer)
        old = known.get(key)
        if old is None or (old.experiment, old.layer) != (experiment, layer):
            old = compile_experiment(experiment, layer, describe)
        compiled[key] = old
    return Snapshot(config_version, compiled)


def compile_experiment(
    experiment: Experiment, layer: Layer | None, describe: Describe = undescribed
) -> CompiledExperiment:
    """The closure of one experiment; one that runs on slots needs its layer, else ValueError."""
    return CompiledExperiment(
        experiment=experiment,
        layer=layer,
        unit_type=experiment.design.unit_type,
        decide=_decide(experiment, layer),
        description=describe(experiment),
    )


def _decide(experiment: Experiment, layer: Layer | None) -> Decide:
    if experiment.design.source is AssignmentSource.EXTERNAL:
        return lambda _unit: EXTERNAL
    if experiment.state is not State.RUNNING:
        return lambda _unit: NOT_RUNNING
    if layer is None:
        raise ValueError(
            f"{experiment.experiment_id!r} runs without layer {experiment.design.layer!r}"
        )
    return _by_slot_and_split(experiment, layer)


def _by_slot_and_split(experiment: Experiment, layer: Layer) -> Decide:
    variants = experiment.design.variants
    outcomes = tuple(Decision(variant.key, Reason.SPLIT) for variant in variants)
    # A byte a bucket: variants in their order, each as wide as its weight.
    arms = b"".join(bytes((arm,)) * variant.weight for arm, variant in enumerate(variants))
    split = split_bucketer(experiment.design)
    owned = _owned_slots(experiment.experiment_id, layer)
    if all(owned):
        return lambda unit: outcomes[arms[split(unit)]]
    slot = slot_bucketer(layer)
    return lambda unit: outcomes[arms[split(unit)]] if owned[slot(unit)] else NOT_IN_SLOTS


def _owned_slots(experiment_id: str, layer: Layer) -> bytes:
    owned = bytearray(TOTAL_SLOTS)
    for row in layer.owned_by(experiment_id):
        owned[row.first : row.end] = b"\x01" * row.slots
    return bytes(owned)


def slot_bucketer(layer: Layer) -> Bucketer:
    """From the bytes of a unit to its slot of the layer."""
    return bucketer(layer.hash_version, layer.salt, TOTAL_SLOTS)


def split_bucketer(design: Design) -> Bucketer:
    """From the bytes of a unit to its bucket of the split."""
    return bucketer(design.hash_version, design.salt, TOTAL_WEIGHT)
