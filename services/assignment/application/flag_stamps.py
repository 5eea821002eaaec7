"""Which flags may answer otherwise after a change: those of which a stamp is another."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from google.protobuf.message import Message
from touchstone.assignment.v1 import ruleset_pb2 as pb


class Keyed(Protocol):
    """A flag: of an experiment or of a parameter, the other one being empty."""

    @property
    def key(self) -> str:
        """Its key."""
        ...

    @property
    def experiment(self) -> str:
        """The id of the experiment."""
        ...

    @property
    def parameter(self) -> str:
        """The key of the parameter."""
        ...


def flag_stamps(ruleset: pb.Ruleset, flags: Iterable[Keyed]) -> dict[str, int]:
    """By the key of each flag, a number that follows from all rules that its answers follow from.

    The numbers are good for comparison within one process.
    """
    stamps = _experiment_stamps(ruleset)
    inside: dict[str, list[int]] = {}
    for rule in ruleset.experiments:
        inside.setdefault(rule.layer, []).append(stamps[rule.experiment])
    setting: dict[str, list[object]] = {}
    for layer in ruleset.layers:
        if layer.parameters:
            made = (_bytes([layer]), tuple(inside.get(layer.layer, ())))
            for parameter in layer.parameters:
                setting.setdefault(parameter.key, []).append(made)
    return {
        flag.key: stamps[flag.experiment]
        if flag.experiment
        else hash(tuple(setting[flag.parameter]))
        for flag in flags
    }


def _experiment_stamps(ruleset: pb.Ruleset) -> dict[str, int]:
    layers: Mapping[str, bytes] = {layer.layer: _bytes([layer]) for layer in ruleset.layers}
    # A domain may hold another's layer and a holdout may cover what it likes; both change seldom.
    around = (_bytes(ruleset.domains), _bytes(ruleset.holdouts))
    asked = _bytes(ruleset.audiences)
    own = {
        rule.experiment: hash(
            (
                _bytes([rule]),
                layers.get(rule.layer),
                around,
                asked if rule.HasField("targeting") else b"",
            )
        )
        for rule in ruleset.experiments
    }
    needs = {
        rule.experiment: tuple(need.experiment for need in rule.prerequisites)
        for rule in ruleset.experiments
    }
    return {key: hash(tuple(own.get(name) for name in _all_needed(key, needs))) for key in own}


def _all_needed(key: str, needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The experiment, what it needs, what that needs, and so on, each once."""
    found = [key]
    for name in found:
        found += [need for need in needs.get(name, ()) if need not in found]
    return found


def _bytes(rules: Iterable[Message]) -> bytes:
    return b"".join(rule.SerializeToString(deterministic=True) for rule in rules)
