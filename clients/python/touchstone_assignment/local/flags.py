"""Answers as OpenFeature wants them, in the words of the service's own flags.

A unit without a variant gets the variant `default` with the control's value. Nothing is STATIC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagType, Reason

from touchstone_assignment.decision import Reason as Why
from touchstone_assignment.local.answers import Answer, ParameterAnswer, Unanswered
from touchstone_assignment.local.rules import Rules

PARAMETER = "param."
"""What the key of a parameter's flag begins with."""
DEFAULT_VARIANT = "default"

Details = FlagResolutionDetails[Any]

_DISABLED = frozenset({Why.KILLED, Why.NOT_RUNNING})
_NO_FLAG = frozenset({Why.UNKNOWN_EXPERIMENT, Why.EXTERNAL})
_ERRORS = {
    Unanswered.NOT_READY: ErrorCode.PROVIDER_NOT_READY,
    Unanswered.SERVER_ONLY: ErrorCode.GENERAL,
    Unanswered.INVALID: ErrorCode.INVALID_CONTEXT,
}
_TYPES: Mapping[FlagType, tuple[type, ...]] = {
    FlagType.BOOLEAN: (bool,),
    FlagType.STRING: (str,),
    FlagType.INTEGER: (int, float),
    FlagType.FLOAT: (int, float),
    FlagType.OBJECT: (dict, list),
}


def ids_of(
    rules: Rules | None, unit_type: str, attributes: Mapping[str, Any], targeting_key: str | None
) -> dict[str, str]:
    """The ids in a context: attributes with the names of unit types, and the targeting key."""
    types = rules.unit_types if rules is not None else frozenset[str]()
    ids = {
        kind: value for kind in types if isinstance(value := attributes.get(kind), str) and value
    }
    if targeting_key and unit_type:
        ids.setdefault(unit_type, targeting_key)
    return ids


def unit_type_of(rules: Rules | None, key: str) -> str:
    """The unit type of a flag; empty when there is no such flag."""
    if rules is None:
        return ""
    if key.startswith(PARAMETER):
        layer = _layer_of(rules, key)
        return rules.evaluator.layers[layer].unit_type if layer else ""
    compiled = rules.evaluator.experiments.get(key)
    return compiled.unit_type if compiled is not None else ""


def _layer_of(rules: Rules, key: str) -> str:
    """The layer whose default a parameter has; empty when there is no such parameter."""
    sources = rules.evaluator.parameter_rules.get(key.removeprefix(PARAMETER))
    return sources.layers[0] if sources is not None else ""


def of_experiment(key: str, answer: Answer, rules: Rules | None) -> Details:
    """The flag of an experiment. Its value is None where there is an error."""
    if isinstance(answer.reason, Unanswered):
        return _failed(answer.reason, answer.detail)
    compiled = rules.evaluator.experiments.get(key) if rules is not None else None
    if rules is None or compiled is None or answer.reason in _NO_FLAG:
        return no_flag(key)
    if answer.reason is Why.MISSING_UNIT:
        return _error(
            ErrorCode.TARGETING_KEY_MISSING,
            f"flag {key!r} is about units of type {compiled.unit_type!r}; set the targeting key, "
            f"or an attribute {compiled.unit_type!r}",
        )
    metadata = {**_of_set(rules), **compiled.metadata, "decision": answer.reason.value}
    if answer.because_of:
        metadata["becauseOf"] = answer.because_of
    if answer.propensity:
        metadata["propensity"] = answer.propensity
    if answer.tainted:
        metadata["tainted"] = True
    if answer.variant is not None:
        served = Reason.SPLIT if answer.reason is Why.SPLIT else Reason.TARGETING_MATCH
        return FlagResolutionDetails(answer.value, None, None, served, answer.variant, metadata)
    reason = Reason.DISABLED if answer.reason in _DISABLED else Reason.DEFAULT
    return FlagResolutionDetails(rules.controls[key], None, None, reason, DEFAULT_VARIANT, metadata)


def of_parameter(key: str, answer: ParameterAnswer, rules: Rules | None) -> Details:
    """The flag of a parameter. Its value is None where there is an error."""
    if answer.reason is not None:
        return _failed(answer.reason)
    layer = _layer_of(rules, key) if rules is not None else ""
    if rules is None or not layer:
        return no_flag(key)
    metadata = {**_of_set(rules), "layer": layer, "parameter": key.removeprefix(PARAMETER)}
    if not answer.experiment:
        return FlagResolutionDetails(
            answer.value, None, None, Reason.DEFAULT, DEFAULT_VARIANT, metadata
        )
    metadata["experiment"] = answer.experiment
    return FlagResolutionDetails(answer.value, None, None, Reason.SPLIT, answer.variant, metadata)


def of_type(key: str, details: Details, wanted: FlagType) -> Details:
    """The same as the type that was asked for. A fraction is no integer; a whole number is both."""
    value = details.value
    fits = isinstance(value, _TYPES[wanted])
    if isinstance(value, bool) and wanted is not FlagType.BOOLEAN:
        fits = False
    if fits and wanted is FlagType.FLOAT:
        details.value = float(value)
    elif fits and wanted is FlagType.INTEGER:
        fits = float(value).is_integer()
        details.value = int(value) if fits else value
    if fits:
        return details
    return _error(
        ErrorCode.TYPE_MISMATCH,
        f"flag {key!r} is asked for as {wanted.lower()}, and is {type(value).__name__}",
    )


def no_flag(key: str) -> Details:
    """There is none of this key."""
    return _error(
        ErrorCode.FLAG_NOT_FOUND,
        f"there is no flag {key!r}; allowed: the id of an experiment that Touchstone assigns, or "
        f"{PARAMETER}<key> for a parameter",
    )


def _of_set(rules: Rules) -> dict[str, str | int | float | bool]:
    return {"flagSetId": rules.evaluator.project, "version": str(rules.config_version)}


def _failed(reason: Unanswered, detail: str = "") -> Details:
    return _error(_ERRORS[reason], f"{reason}: {detail}" if detail else str(reason))


def _error(code: ErrorCode, message: str) -> Details:
    return FlagResolutionDetails(None, code, message, Reason.ERROR)
