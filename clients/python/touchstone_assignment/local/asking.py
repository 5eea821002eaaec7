"""Asks the service for what only it can decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from touchstone_assignment.decision import Reason
from touchstone_assignment.local.answers import Answer, ParameterAnswer, Unanswered
from touchstone_assignment.local.contract import contract
from touchstone_assignment.local.wire import Wire, WireError
from touchstone_assignment.subject import Subject
from touchstone_assignment.values import plain
from touchstone_assignment.variants import value_of

_NOT_ASKED = "only the service can decide it; Settings(ask_server=True) asks it"


class Asker:
    """Asks when it may, each time with a deadline; a failure is an answer too."""

    def __init__(self, wire: Wire, *, allowed: bool) -> None:
        self._wire = wire
        self._allowed = allowed

    def decide(self, rule: Any, subject: Subject, default: object) -> Answer:
        """What the service decides, or SERVER_ONLY with what went wrong."""
        if not self._allowed:
            return Answer(None, default, Unanswered.SERVER_ONLY, detail=_NOT_ASKED)
        request = contract().assign_request(experiments=[rule.experiment])
        _add_unit(request.units.add(), subject)
        try:
            reply = self._wire.ask(request)
            return _answer(reply, rule, default)
        except (WireError, LookupError, ValueError) as error:
            return Answer(None, default, Unanswered.SERVER_ONLY, detail=str(error))

    def parameters(
        self, keys: Iterable[str], subject: Subject, defaults: Mapping[str, object]
    ) -> dict[str, ParameterAnswer]:
        """What the service says the parameters are, or the caller's defaults."""
        wanted = list(keys)
        found: dict[str, ParameterAnswer] = {}
        if self._allowed and wanted:
            request = contract().parameters_request(keys=wanted)
            _add_unit(request.units.add(), subject)
            try:
                reply = self._wire.ask(request)
                found = {
                    key: ParameterAnswer(
                        plain(value.value),
                        value.experiment,
                        value.variant,
                        None,
                        reply.config_version,
                    )
                    for key, value in reply.units[0].values.items()
                }
            except (WireError, LookupError, ValueError):
                found = {}
        return {
            key: found.get(key, ParameterAnswer(defaults.get(key), reason=Unanswered.SERVER_ONLY))
            for key in wanted
        }


def _add_unit(unit: Any, subject: Subject) -> None:
    for kind, unit_id in subject.ids.items():
        unit.ids.add(type=kind, id=unit_id)
    unit.attributes.update(dict(subject.attributes))


def _answer(reply: Any, rule: Any, default: object) -> Answer:
    decision = reply.units[0].decisions[0]
    variant = decision.variant or None
    return Answer(
        variant,
        default if variant is None else value_of(rule, variant),
        Reason(contract().reasons[decision.reason]),
        reply.config_version,
        decision.propensity,
        decision.because_of,
        decision.tainted,
        from_server=True,
    )
