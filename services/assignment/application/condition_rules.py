"""Which conditions an experiment or an audience may have, and who asks for which audience."""

from collections.abc import Iterable, Mapping

from touchstone.assignment.v1.ruleset_pb2 import AudienceRule
from touchstone_assignment.conditions import Audiences, IdSet, faults, predicate

from services.assignment.application.schema import attribute_types
from services.assignment.domain.audience import Audience
from services.assignment.domain.experiment import Experiment, State
from services.assignment.domain.limits import LIMITS
from services.assignment.ports import Configuration, ProjectConfig
from services.assignment.wire.condition_text import audience_ids, kept_condition
from shared import errors
from shared.errors import FieldViolation


def require_sound_condition(
    text: str, configuration: Configuration, project: str, field: str
) -> None:
    """INVALID_ARGUMENT, with every fault at once, when the condition cannot decide."""
    found = condition_faults(text, configuration, project, field)
    if found:
        raise errors.invalid_fields(found)


def condition_faults(
    text: str, configuration: Configuration, project: str, field: str
) -> list[FieldViolation]:
    """What keeps the condition from deciding.

    It may ask for attributes that the project declares, if it declares any, and for audiences that
    are there. With all of these it stays within the limits of a condition.
    """
    size = len(text.encode())
    if size > LIMITS.max_condition_bytes:
        allowed = f"at most {LIMITS.max_condition_bytes} as JSON; long lists of ids are audiences"
        return [FieldViolation(field, f"is {size} bytes; allowed: {allowed}")]
    audiences = configuration.audiences.all_now(project)
    types = attribute_types(configuration, project)
    condition = kept_condition(text)
    found = faults(condition, types, field, audiences)
    if found:
        return [FieldViolation(*fault) for fault in found]
    try:
        predicate(condition, _context(audience_ids(text), audiences))
    except ValueError as error:
        return [FieldViolation(field, f"cannot decide: {error}; allowed: a rule within its limits")]
    return []


def require_bearable(changed: Audience, config: ProjectConfig) -> None:
    """INVALID_ARGUMENT when with this audience another condition cannot decide any more.

    `config` holds what stands beside it, and may hold what it was before.
    """
    audiences = {**config.audiences, changed.resource_id: changed}
    asking = _asking(changed.resource_id, audiences)
    context = _context(asking, audiences)
    for key in sorted(asking):
        try:
            context.audience(key)
        except ValueError as error:
            raise _unbearable(f"audience {key}", error) from error
    for experiment in _live(config):
        text = experiment.design.targeting or ""
        if asking.isdisjoint(audience_ids(text)):
            continue
        try:
            predicate(kept_condition(text), _context(audience_ids(text), audiences))
        except ValueError as error:
            raise _unbearable(f"experiment {experiment.experiment_id}", error) from error


def users_of_audience(config: ProjectConfig, audience_id: str) -> list[str]:
    """The audiences and experiments that ask for it, by kind and id; archived ones do not."""
    return [
        *(
            f"audience {key}"
            for key, found in config.audiences.items()
            if audience_id in audience_ids(found.condition or "")
        ),
        *(
            f"experiment {found.experiment_id}"
            for found in _live(config)
            if audience_id in audience_ids(found.design.targeting or "")
        ),
    ]


def audience_rules(wanted: Iterable[str], audiences: Mapping[str, Audience]) -> list[AudienceRule]:
    """The rules of these audiences and of all that they ask for, however deep."""
    found: dict[str, AudienceRule] = {}
    waiting = [*wanted]
    while waiting:
        key = waiting.pop()
        audience = audiences.get(key)
        if key in found or audience is None:
            continue
        if isinstance(audience.members, str):
            found[key] = AudienceRule(audience=key, condition=kept_condition(audience.members))
            waiting += audience_ids(audience.members)
        else:
            listed = audience.members
            found[key] = AudienceRule(
                audience=key, unit_type=listed.unit_type, digest=listed.digest, count=listed.count
            )
    return list(found.values())


def _context(wanted: Iterable[str], audiences: Mapping[str, Audience]) -> Audiences:
    """What conditions may name, for judging them: who is on a list does not matter."""
    return Audiences(audience_rules(wanted, audiences), lambda _digest: IdSet.of_ids(()))


def _asking(audience_id: str, audiences: Mapping[str, Audience]) -> set[str]:
    """The audience, and all that ask for it, however deep."""
    asked = {key: audience_ids(found.condition or "") for key, found in audiences.items()}
    found, last = set[str](), {audience_id}
    while last:
        found |= last
        last = {key for key, ids in asked.items() if not ids.isdisjoint(last)} - found
    return found


def _live(config: ProjectConfig) -> list[Experiment]:
    return [found for found in config.experiments.values() if found.state is not State.ARCHIVED]


def _unbearable(who: str, error: ValueError) -> errors.DomainError:
    allowed = f"what {who}, which asks for it, can still decide by"
    return errors.invalid("audience.condition", str(error), allowed)
