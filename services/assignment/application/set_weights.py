"""Set the weights of a bandit's variants."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.assignment.application.find import find_experiment, require_etag
from services.assignment.domain.experiment import TOTAL_WEIGHT, Experiment
from services.assignment.domain.feature_rules import fault
from services.assignment.domain.lifecycle import reweight
from services.assignment.ports import Configuration
from shared import errors
from shared.errors import FieldViolation


@dataclass(frozen=True, slots=True)
class SetWeights:
    """The weight of every variant by its key; with an etag, only if it is still that."""

    project: str
    experiment_id: str
    weights: Mapping[str, int]
    etag: str = ""


def set_weights(command: SetWeights, configuration: Configuration, now: datetime) -> Experiment:
    """The experiment with its new weights, which make a configuration version of their own.

    NOT_FOUND, ABORTED on a stale etag, FAILED_PRECONDITION for an experiment whose weights are
    fixed or that is over, INVALID_ARGUMENT with every fault of the weights. The weights that it
    has already change nothing.
    """
    revision = configuration.next_revision(command.project, now)
    old = find_experiment(configuration, command.project, command.experiment_id)
    require_etag(old, command.etag)
    had = {variant.key: variant.weight for variant in old.design.variants}
    faults = tuple(_faults(command.weights, had))
    if faults:
        raise errors.invalid_fields(faults)
    new = reweight(old, command.weights, revision)
    if had == command.weights:
        return old
    configuration.experiments.replace(old, new)
    return new


def _faults(weights: Mapping[str, int], had: Mapping[str, int]) -> Iterator[FieldViolation]:
    keys = list(had)
    for key, weight in sorted(weights.items()):
        if key not in had:
            yield fault("weights", key, f"the keys of the variants, {keys[:10]}")
        if not 0 <= weight <= TOTAL_WEIGHT:
            yield fault(f"weights[{key}]", weight, f"0 to {TOTAL_WEIGHT}")
    missing = [key for key in keys if key not in weights]
    if missing:
        yield FieldViolation("weights", f"lack {missing[:10]}; name every variant, with 0 for none")
    if sum(weights.values()) != TOTAL_WEIGHT:
        yield FieldViolation(
            "weights",
            f"sum to {sum(weights.values())}; allowed: a sum of exactly {TOTAL_WEIGHT}",
        )
