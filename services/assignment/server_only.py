"""Which experiments only the server can decide, so that no document for clients holds them."""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.assignment.condition_text import audience_ids
from services.assignment.domain.audience import Audience
from services.assignment.domain.experiment import Allocation, Experiment
from services.assignment.ports import ProjectConfig

MAX_FORCED_SENT = 100
"""An experiment with more forced variants is decided by the server alone."""


def server_only(config: ProjectConfig) -> frozenset[str]:
    """The ids of those that keep what they served, learn, force many variants or ask for a list.

    What needs one of them in its prerequisites, or asks for an audience that asks for a list, is
    one as well.
    """
    forced = Counter(found.experiment_id for found in config.forced.values())
    listed = _listed(config.audiences)
    needs = {
        key: [needed.experiment_id for needed in found.design.prerequisites]
        for key, found in config.experiments.items()
    }
    return _reaching(
        (
            key
            for key, found in config.experiments.items()
            if _alone(found) or forced[key] > MAX_FORCED_SENT or _asks(found, listed)
        ),
        needs.items(),
    )


def _listed(audiences: Mapping[str, Audience]) -> frozenset[str]:
    lists = [key for key, audience in audiences.items() if audience.id_list]
    if not lists:
        return frozenset()
    asked = {
        key: () if audience.condition is None else audience_ids(audience.condition)
        for key, audience in audiences.items()
    }
    return _reaching(lists, asked.items())


def _alone(found: Experiment) -> bool:
    design = found.design
    bandit = design.allocation is Allocation.BANDIT
    return design.sticky or bandit or bool(design.anonymous_unit_type)


def _asks(found: Experiment, listed: frozenset[str]) -> bool:
    targeting = found.design.targeting
    return targeting is not None and bool(listed) and not listed.isdisjoint(audience_ids(targeting))


def _reaching(ends: Iterable[str], needs: Iterable[tuple[str, Iterable[str]]]) -> frozenset[str]:
    """The ends, and all that need one of them, however many steps away."""
    needed_by: dict[str, list[str]] = {}
    for key, needed in needs:
        for other in needed:
            needed_by.setdefault(other, []).append(key)
    found: set[str] = set()
    waiting = list(ends)
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += needed_by.get(key, ())
    return frozenset(found)
