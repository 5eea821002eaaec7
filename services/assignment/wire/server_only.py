"""Which experiments only the server can decide, so that no document for clients holds them."""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.assignment.domain.audience import Audience
from services.assignment.domain.experiment import Allocation, Experiment
from services.assignment.domain.forced import forced_prefix
from services.assignment.ports import Configuration, ProjectConfig
from services.assignment.wire.condition_text import audience_ids

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


def is_server_only(found: Experiment, configuration: Configuration) -> bool:
    """Whether `server_only` would name the experiment; reads no more than that takes."""
    waiting, seen = [found], {found.experiment_id}
    listed: frozenset[str] | None = None
    while waiting:
        one = waiting.pop()
        if _alone(one) or _forces_many(one, configuration):
            return True
        if one.design.targeting is not None and audience_ids(one.design.targeting):
            if listed is None:
                listed = _listed(configuration.audiences.all_now(one.project))
            if _asks(one, listed):
                return True
        for needed in one.design.prerequisites:
            other = configuration.experiments.get(one.project, needed.experiment_id)
            if other is not None and other.experiment_id not in seen:
                seen.add(other.experiment_id)
                waiting.append(other)
    return False


def _forces_many(found: Experiment, configuration: Configuration) -> bool:
    first = forced_prefix(found.experiment_id)
    page = configuration.forced.page(found.project, first, MAX_FORCED_SENT + 1)
    return len([one for one in page if one.experiment_id == found.experiment_id]) > MAX_FORCED_SENT


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
