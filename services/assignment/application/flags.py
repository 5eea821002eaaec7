"""Experiments and parameters as flags: what a client of OpenFeature asks for, by whatever door.

A project is a flag set. An experiment is the flag of its id, a parameter the flag `param.<key>`;
what another system assigns is no flag. A unit that gets no variant gets the variant `default`, with
the control's value. Every door answers from here, and what is decided comes from where Assign takes
it, so that all say the same. No answer is STATIC: clients keep those and ask no more.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from touchstone.assignment.v1.ruleset_pb2 import Ruleset
from touchstone_assignment.decision import Decision, Reason
from touchstone_assignment.subject import Subject

from services.assignment.application.flag_context import Context, UnfitIdsError, subject_of
from services.assignment.application.flag_errors import (
    FlagError,
    flag_not_found,
    invalid_context,
    targeting_key_missing,
    type_mismatch,
)
from services.assignment.application.flag_set import (
    DEFAULT_VARIANT,
    Flag,
    FlagSet,
    FlagType,
    Scalar,
)


class FlagReason(enum.StrEnum):
    """The reasons of OpenFeature that an answer may have."""

    SPLIT = "SPLIT"
    """The split chose the variant."""
    TARGETING_MATCH = "TARGETING_MATCH"
    """The variant is forced for the unit, or kept by it."""
    DEFAULT = "DEFAULT"
    """The unit gets no variant."""
    DISABLED = "DISABLED"
    """Nobody does: the experiment does not run, or its kill switch is on."""


_DISABLED = frozenset((Reason.KILLED, Reason.NOT_RUNNING))


@dataclass(frozen=True, slots=True)
class ResolvedFlag:
    """What a flag is for a context. Value, variant and reason are always there."""

    key: str
    type: FlagType
    value: object
    variant: str
    reason: FlagReason
    metadata: Mapping[str, Scalar]


class Setting(Protocol):
    """The value of a parameter, and the experiment and the variant that set it, or neither."""

    @property
    def value(self) -> object:
        """The value."""
        ...

    @property
    def experiment(self) -> str | None:
        """The experiment's id; empty or None when the value is the parameter's default."""
        ...

    @property
    def variant(self) -> str | None:
        """The key of its variant."""
        ...


class FlagRules(Protocol):
    """What decides in one project, at one configuration version for as long as it is held.

    It decides as Assign does, with what only the server knows: variants that units keep, ids that
    belong together.
    """

    @property
    def flags(self) -> FlagSet:
        """The flags that there are."""
        ...

    @property
    def digest(self) -> str:
        """Another one for other rules, also when their configuration version is the same: a store
        that comes back may have another past.
        """
        ...

    @property
    def ruleset(self) -> Ruleset:
        """The rules that the flags are made from."""
        ...

    async def decide(
        self, experiments: Sequence[str], subject: Subject, *, keep: bool = True
    ) -> Sequence[Decision]:
        """A decision for each of these experiments, in their order; UNAVAILABLE when what only the
        server knows cannot be read.

        With `keep` it counts as served: sticky units have it from now on.
        """
        ...

    async def parameters(self, keys: Sequence[str], subject: Subject) -> Mapping[str, Setting]:
        """The values of these parameters by their keys."""
        ...


async def resolve_flag(
    key: str, context: Context, rules: FlagRules, now_s: float, wanted: FlagType | None = None
) -> ResolvedFlag:
    """One flag for one context, of the wanted type when there is one.

    FlagError: FLAG_NOT_FOUND, TYPE_MISMATCH, INVALID_CONTEXT, or TARGETING_KEY_MISSING when the
    decision gets as far as asking for the id and the context has none.
    """
    flag = rules.flags.flags.get(key)
    if flag is None:
        raise flag_not_found(key)
    if wanted is not None:
        _require_type(flag, wanted)
    (found,) = await _resolve([flag], context, rules, now_s, keep=True)
    if isinstance(found, FlagError):
        raise found
    return found if wanted is None else _as_type(found, wanted)


async def resolve_flags(
    context: Context, rules: FlagRules, now_s: float
) -> list[ResolvedFlag | FlagError]:
    """Every flag of the project for one context, by key, or why one cannot be answered.

    That fills the cache of a client, who may never look at most of them: nothing counts as served.
    """
    flags = list(rules.flags.flags.values())
    return await _resolve(flags, context, rules, now_s, keep=False)


async def _resolve(
    flags: Sequence[Flag], context: Context, rules: FlagRules, now_s: float, *, keep: bool
) -> list[ResolvedFlag | FlagError]:
    by_unit_type: dict[str, list[Flag]] = {}
    for flag in flags:
        by_unit_type.setdefault(flag.unit_type, []).append(flag)
    found: dict[str, ResolvedFlag | FlagError] = {}
    for unit_type, of_type in by_unit_type.items():
        try:
            subject = subject_of(context, unit_type, rules.flags.unit_types, now_s)
        except UnfitIdsError as error:
            found |= {flag.key: invalid_context(flag.key, error.names) for flag in of_type}
        else:
            found |= await _resolve_for(subject, of_type, rules, keep=keep)
    return [found[flag.key] for flag in flags]


async def _resolve_for(
    subject: Subject, flags: Sequence[Flag], rules: FlagRules, *, keep: bool
) -> dict[str, ResolvedFlag | FlagError]:
    experiments = [flag for flag in flags if flag.experiment]
    parameters = [flag for flag in flags if flag.parameter]
    found: dict[str, ResolvedFlag | FlagError] = {}
    if experiments:
        keys = [flag.experiment for flag in experiments]
        decisions = await rules.decide(keys, subject, keep=keep)
        for flag, decision in zip(experiments, decisions, strict=True):
            found[flag.key] = _experiment(flag, decision)
    if parameters:
        settings = await rules.parameters([flag.parameter for flag in parameters], subject)
        for flag in parameters:
            found[flag.key] = _parameter(flag, settings[flag.parameter])
    return found


def _experiment(flag: Flag, decision: Decision) -> ResolvedFlag | FlagError:
    if decision.reason is Reason.MISSING_UNIT:
        return targeting_key_missing(flag.key, flag.unit_type)
    metadata: dict[str, Scalar] = {**flag.metadata, "decision": decision.reason.value}
    if decision.because_of:
        metadata["becauseOf"] = decision.because_of
    if decision.propensity:
        metadata["propensity"] = decision.propensity
    if decision.tainted:
        metadata["tainted"] = True
    variant = decision.variant or DEFAULT_VARIANT
    return ResolvedFlag(
        flag.key, flag.type, flag.values[variant], variant, _reason(decision), metadata
    )


def _reason(decision: Decision) -> FlagReason:
    if decision.variant is None:
        return FlagReason.DISABLED if decision.reason in _DISABLED else FlagReason.DEFAULT
    return FlagReason.SPLIT if decision.reason is Reason.SPLIT else FlagReason.TARGETING_MATCH


def _parameter(flag: Flag, setting: Setting) -> ResolvedFlag:
    if not setting.experiment:
        return ResolvedFlag(
            flag.key, flag.type, setting.value, DEFAULT_VARIANT, FlagReason.DEFAULT, flag.metadata
        )
    metadata = {**flag.metadata, "experiment": setting.experiment}
    variant = setting.variant or DEFAULT_VARIANT
    return ResolvedFlag(flag.key, flag.type, setting.value, variant, FlagReason.SPLIT, metadata)


_NUMBERS = frozenset((FlagType.INTEGER, FlagType.FLOAT))


def _require_type(flag: Flag, wanted: FlagType) -> None:
    fits = flag.type is wanted or {flag.type, wanted} <= _NUMBERS
    if not fits:
        raise type_mismatch(flag.key, wanted, flag.type)


def _as_type(found: ResolvedFlag, wanted: FlagType) -> ResolvedFlag:
    """A whole number may be asked for as a number and the other way round; a fraction may not."""
    read = _AS_NUMBER.get(wanted)
    if read is None or not isinstance(found.value, int | float):
        return found
    if wanted is FlagType.INTEGER and not float(found.value).is_integer():
        raise type_mismatch(found.key, wanted, f"{FlagType.FLOAT}: its value is a fraction")
    return ResolvedFlag(
        found.key, wanted, read(found.value), found.variant, found.reason, found.metadata
    )


_AS_NUMBER: Mapping[FlagType, Callable[[int | float], int | float]] = {
    FlagType.INTEGER: int,
    FlagType.FLOAT: float,
}
