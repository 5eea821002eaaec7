"""Touchstone behind OpenFeature, in process.

A flag is an experiment, by its id, or a parameter of a layer, by `param.` and its key. The
targeting key is the id of the unit; an attribute that has the name of a unit type (`user`,
`device`) is the id of that type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagType, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from touchstone_assignment.local import flags
from touchstone_assignment.local.assignment import LocalAssignment
from touchstone_assignment.local.status import Change, Kind


class TouchstoneProvider(AbstractProvider):
    """Resolves flags from a LocalAssignment, which it starts, and closes at its shutdown.

    `wait_s` is how long the initialization waits for rules. Without any it fails; evaluations then
    give the code's default with PROVIDER_NOT_READY until rules come, which PROVIDER_READY tells.
    """

    def __init__(self, local: LocalAssignment, *, wait_s: float = 5.0) -> None:
        super().__init__()
        self._local = local
        self._wait_s = wait_s
        self._initialized = False
        local.listen(self._heard)

    def get_metadata(self) -> Metadata:
        """Its name."""
        return Metadata("touchstone")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002  its name
        """Called by OpenFeature: ready as soon as there are rules, of the service or the disk."""
        if not self._local.wait_ready(self._wait_s):
            self._initialized = True
            raise ProviderNotReadyError(
                f"no rules after {self._wait_s:g} s and none on the disk: "
                f"{self._local.status().problem or 'the service said nothing'}"
            )
        self._initialized = True
        status = self._local.status()
        if status.stale:
            self.emit_provider_stale(_details(status.config_version))

    def shutdown(self) -> None:
        """Called by OpenFeature."""
        self._local.close()

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """See OpenFeature."""
        return self._resolve(flag_key, default_value, evaluation_context, FlagType.BOOLEAN)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """See OpenFeature."""
        return self._resolve(flag_key, default_value, evaluation_context, FlagType.STRING)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """See OpenFeature."""
        return self._resolve(flag_key, default_value, evaluation_context, FlagType.INTEGER)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """See OpenFeature."""
        return self._resolve(flag_key, default_value, evaluation_context, FlagType.FLOAT)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """See OpenFeature."""
        return self._resolve(flag_key, default_value, evaluation_context, FlagType.OBJECT)

    def _resolve(
        self, key: str, default: Any, context: EvaluationContext | None, wanted: FlagType
    ) -> FlagResolutionDetails[Any]:
        rules = self._local.rules
        attributes = dict(context.attributes) if context is not None else {}
        targeting_key = context.targeting_key if context is not None else None
        unit_type = flags.unit_type_of(rules, key)
        ids = flags.ids_of(rules, unit_type, attributes, targeting_key)
        if rules is not None and not unit_type:
            details = flags.no_flag(key)
        elif key.startswith(flags.PARAMETER):
            name = key.removeprefix(flags.PARAMETER)
            answer = self._local.parameters(ids, {name: default}, attributes)[name]
            details = flags.of_parameter(key, answer, rules)
        else:
            details = flags.of_experiment(key, self._local.decide(key, ids, attributes), rules)
        if details.error_code is None:
            details = flags.of_type(key, details, wanted)
        if details.error_code is not None:
            details.value = default
        return details

    def _heard(self, change: Change) -> None:
        if not self._initialized:
            # What happens before the initialization ends, its end tells.
            return
        details = _details(change.config_version)
        if change.kind is Kind.CHANGED:
            details.flags_changed = list(change.experiments)
            self.emit_provider_configuration_changed(details)
        elif change.kind is Kind.STALE:
            self.emit_provider_stale(details)
        else:
            self.emit_provider_ready(details)


def _details(config_version: int) -> ProviderEventDetails:
    return ProviderEventDetails(metadata={"configVersion": config_version})
