"""The flags of a project, made once of each of its rulesets."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from touchstone.assignment.v1 import experiment_pb2 as experiment_pb
from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.values import plain
from touchstone_assignment.variants import value_of

from services.assignment.application.flag_stamps import flag_stamps

DEFAULT_VARIANT = "default"
"""The variant of units that get none. No design has a variant of this key."""
PARAMETER = "param."
"""What the key of a parameter's flag begins with; no id of an experiment holds a point."""

Scalar = str | int | float | bool


class FlagType(enum.StrEnum):
    """The types of OpenFeature."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


_TYPE = {
    experiment_pb.VALUE_TYPE_UNSPECIFIED: FlagType.STRING,
    experiment_pb.VALUE_TYPE_KEY: FlagType.STRING,
    experiment_pb.VALUE_TYPE_BOOLEAN: FlagType.BOOLEAN,
    experiment_pb.VALUE_TYPE_STRING: FlagType.STRING,
    experiment_pb.VALUE_TYPE_INTEGER: FlagType.INTEGER,
    experiment_pb.VALUE_TYPE_FLOAT: FlagType.FLOAT,
    experiment_pb.VALUE_TYPE_OBJECT: FlagType.OBJECT,
}
_HASH = {
    experiment_pb.HASH_VERSION_FLAGD_V2: "flagd-v2",
    experiment_pb.HASH_VERSION_FLAGD_V3: "flagd-v3",
}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: what it is apart from what it gives a unit."""

    key: str
    type: FlagType
    unit_type: str
    """The type of the id that the targeting key is."""
    values: Mapping[str, object]
    """The value of each variant, `default` included; a parameter has that one only."""
    metadata: Mapping[str, Scalar]
    """What is said of the flag and its flag set with every answer."""
    experiment: str = ""
    """The id of the experiment; empty for a parameter."""
    parameter: str = ""
    """The key of the parameter; empty for an experiment."""
    server_only: bool = False
    """Whether a client cannot decide it for itself."""


@dataclass(frozen=True, slots=True)
class FlagSet:
    """Every flag of a project at one configuration version, by its key, ascending."""

    project: str
    config_version: int
    flags: Mapping[str, Flag]
    unit_types: frozenset[str]
    """The types whose names, as attributes of a context, are ids."""
    stamps: Mapping[str, int]
    """By key, what is another number when the flag may answer otherwise than before."""

    @property
    def metadata(self) -> dict[str, Scalar]:
        """What is said of the flag set."""
        return set_metadata(self.project, self.config_version)


def set_metadata(project: str, config_version: int) -> dict[str, Scalar]:
    """The names are those that OpenTelemetry's attributes of flags are taken from."""
    return {"flagSetId": project, "version": str(config_version)}


def flag_set(ruleset: pb.Ruleset) -> FlagSet:
    """The flags of a ruleset."""
    shared = set_metadata(ruleset.project, ruleset.config_version)
    flags = [*_experiments(ruleset, shared), *_parameters(ruleset, shared)]
    return FlagSet(
        project=ruleset.project,
        config_version=ruleset.config_version,
        flags={flag.key: flag for flag in sorted(flags, key=lambda flag: flag.key)},
        unit_types=frozenset(_unit_types(ruleset)),
        stamps=flag_stamps(ruleset, flags),
    )


def experiment_metadata(rule: pb.ExperimentRule) -> dict[str, Scalar]:
    """What is said of an experiment with every answer."""
    return {
        "experiment": rule.experiment,
        "layer": rule.layer,
        "hashVersion": _HASH.get(rule.hash_version, "flagd-v2"),
        "configVersion": rule.config_version,
    }


def _experiments(ruleset: pb.Ruleset, shared: Mapping[str, Scalar]) -> Iterator[Flag]:
    for rule in ruleset.experiments:
        if rule.serving == pb.SERVING_EXTERNAL:
            continue
        kind = _TYPE[rule.value_type]
        values = {variant.key: _value(rule, kind, variant.key) for variant in rule.variants}
        values[DEFAULT_VARIANT] = _value(rule, kind, rule.control)
        yield Flag(
            key=rule.experiment,
            type=kind,
            unit_type=rule.unit_type,
            values=values,
            metadata={**shared, **experiment_metadata(rule)},
            experiment=rule.experiment,
            server_only=rule.server_only,
        )


def _value(rule: pb.ExperimentRule, kind: FlagType, variant: str) -> object:
    value = value_of(rule, variant)
    return {} if kind is FlagType.OBJECT and value is None else value


def _parameters(ruleset: pb.Ruleset, shared: Mapping[str, Scalar]) -> Iterator[Flag]:
    # Of two layers that set a parameter the one that compares comes last and counts.
    for layer in sorted(ruleset.layers, key=lambda found: (not found.launch, found.layer)):
        for parameter in layer.parameters:
            default = plain(parameter.default_value)
            yield Flag(
                key=PARAMETER + parameter.key,
                type=_type_of(default),
                unit_type=layer.unit_type,
                values={DEFAULT_VARIANT: default},
                metadata={**shared, "layer": layer.layer, "parameter": parameter.key},
                parameter=parameter.key,
            )


def _type_of(default: object) -> FlagType:
    if isinstance(default, bool):
        return FlagType.BOOLEAN
    if isinstance(default, str):
        return FlagType.STRING
    # A number of a parameter may be a fraction for some units, whatever its default is.
    return FlagType.FLOAT if isinstance(default, int | float) else FlagType.OBJECT


def _unit_types(ruleset: pb.Ruleset) -> Iterator[str]:
    for rule in ruleset.experiments:
        yield rule.unit_type
        if rule.anonymous_unit_type:
            yield rule.anonymous_unit_type
        yield from (forced.unit_type for forced in rule.forced)
    yield from (layer.unit_type for layer in ruleset.layers)
    yield from (holdout.unit_type for holdout in ruleset.holdouts)
    yield from (audience.unit_type for audience in ruleset.audiences if audience.unit_type)
