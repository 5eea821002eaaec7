"""Priors on lifts that are learned from the project's own finished experiments."""

import math
from collections.abc import Iterable, Mapping

from touchstone_statistics.learned_prior import Learning, PastLift, learn_prior

from services.results.domain.look import Look, contrast_of
from services.results.domain.reading.beliefs import Prior


def learned(finished: Iterable[Look], experiment_id: str, otherwise: Prior) -> Mapping[str, Prior]:
    """A prior for each metric that other experiments have been finished with.

    `finished` holds the looks at planned ends; those of the experiment itself do not count. Where
    there are too few for a metric, the prior is `otherwise`.
    """
    past: dict[str, list[PastLift]] = {}
    for look in finished:
        if look.key.experiment_id == experiment_id:
            continue
        lift = _past(look)
        if lift is not None:
            past.setdefault(look.key.metric_id, []).append(lift)
    made = {}
    for metric_id, lifts in past.items():
        found = learn_prior(lifts, fallback=otherwise.lift)
        if found.learning is not Learning.FALLBACK:
            experiments = len({name.partition("/")[0] for name in found.experiments})
            words = f"learned from {len(found.experiments)} lifts of this metric in {experiments} "
            made[metric_id] = Prior(found.prior, words + "finished experiments of the project")
    return made


def _past(look: Look) -> PastLift | None:
    """The lift at the planned end with its standard error by the delta method (Deng, Knoblich and
    Lu 2018, equation 4); None where there is none.
    """
    contrast = contrast_of([look.seen])
    if contrast.lift_spread_gap[0]:
        return None
    lift, size = float(contrast.lift[0]), abs(look.seen.control.value)
    ratio = look.seen.treatment.value / look.seen.control.value
    variance = (
        look.seen.treatment.variance
        + ratio**2 * look.seen.control.variance
        - 2.0 * ratio * look.seen.covariance
    )
    std_err = math.sqrt(max(variance, 0.0)) / size
    if not (math.isfinite(lift) and 0.0 < std_err < math.inf):
        return None
    return PastLift(f"{look.key.experiment_id}/{look.key.variant}", lift, std_err)
