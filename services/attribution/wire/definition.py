"""Definitions of journeys between messages and the domain; every default is filled in here."""

from collections.abc import Iterable, Mapping
from typing import Any

from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.common.v1 import filter_pb2

from services.attribution.application.definition import DirectRule, JourneyDefinition
from services.attribution.domain.grouping import AS_SENT
from services.attribution.domain.journeys import Repeats
from services.attribution.domain.paths.transforms import PathTransform, TransformStep
from services.attribution.domain.visibility import DIRECT_CHANNELS, Direct, Window
from services.attribution.ports import Association, CreditKey, TouchField, TouchProperty
from services.attribution.wire.grouping import decode_grouping, encode_grouping
from services.attribution.wire.times import encode_duration, encode_time, microseconds
from shared.errors import FieldViolation, invalid_fields
from shared.filters.filter import Filter
from shared.filters.rules import CONVERSION_FIELDS, TOUCH_FIELDS, filter_faults
from shared.filters.wire import decode_filter, encode_filter
from shared.identity.wire import STITCHING_OF, stitching_of

_REPEATS = {
    pb.REPEAT_RULE_ALL: Repeats.ALL,
    pb.REPEAT_RULE_FIRST: Repeats.FIRST,
    pb.REPEAT_RULE_SPLIT: Repeats.SPLIT,
}
_DIRECT = {
    pb.DIRECT_HANDLING_KEEP: Direct.KEEP,
    pb.DIRECT_HANDLING_SKIP_IF_OTHER: Direct.SKIP_IF_OTHER,
    pb.DIRECT_HANDLING_DROP: Direct.DROP,
}
_FIELDS = {
    pb.TOUCH_FIELD_CHANNEL: TouchField.CHANNEL,
    pb.TOUCH_FIELD_CAMPAIGN: TouchField.CAMPAIGN,
    pb.TOUCH_FIELD_SOURCE_MEDIUM: TouchField.SOURCE_MEDIUM,
    pb.TOUCH_FIELD_INTERACTION: TouchField.INTERACTION,
    pb.TOUCH_FIELD_CONTENT: TouchField.CONTENT,
}
_TRANSFORMS = {
    pb.PATH_TRANSFORM_KIND_UNIQUE: PathTransform.UNIQUE,
    pb.PATH_TRANSFORM_KIND_EXPOSURE: PathTransform.EXPOSURE,
    pb.PATH_TRANSFORM_KIND_EXPOSURE_LAST: PathTransform.EXPOSURE_LAST,
    pb.PATH_TRANSFORM_KIND_FIRST: PathTransform.FIRST,
    pb.PATH_TRANSFORM_KIND_LAST: PathTransform.LAST,
    pb.PATH_TRANSFORM_KIND_FREQUENCY: PathTransform.FREQUENCY,
    pb.PATH_TRANSFORM_KIND_REMOVE_IF_NOT_ALL: PathTransform.REMOVE_IF_NOT_ALL,
    pb.PATH_TRANSFORM_KIND_REMOVE_IF_LAST_AND_NOT_ALL: PathTransform.REMOVE_IF_LAST_AND_NOT_ALL,
}


def _inverse(names: Mapping[Any, Any]) -> dict[Any, Any]:
    return {meant: number for number, meant in names.items()}


_REPEATS_OF, _DIRECT_OF, _FIELDS_OF = _inverse(_REPEATS), _inverse(_DIRECT), _inverse(_FIELDS)
_TRANSFORMS_OF = _inverse(_TRANSFORMS)


def decode_definition(message: pb.JourneyDefinition) -> JourneyDefinition:
    """The definition with its defaults; INVALID_ARGUMENT where its parts contradict each other."""
    default = JourneyDefinition(message.event_name)
    times = {
        name: microseconds(f"journeys.{name}", getattr(message, name))
        for name in ("lookback", "start_time", "end_time")
        if message.HasField(name)
    }
    faults: list[FieldViolation] = []
    bought = _filter(message, "conversion_filter", CONVERSION_FIELDS, faults)
    touched = _filter(message, "touch_filter", TOUCH_FIELDS, faults)
    if faults:
        raise invalid_fields(faults)
    return JourneyDefinition(
        event_name=message.event_name,
        unit_type=message.unit_type or default.unit_type,
        lookback_us=times.get("lookback", default.lookback_us),
        start_us=times.get("start_time"),
        end_us=times.get("end_time"),
        repeats=_REPEATS.get(message.repeat_rule, default.repeats),
        stitching=stitching_of(message.stitching),
        conversion_filter=bought,
        touch_filter=touched,
        windows=tuple(map(_window, range(len(message.windows)), message.windows)),
        associations=tuple(
            Association(pair.touch_property, pair.conversion_property or pair.touch_property)
            for pair in message.associations
        ),
        direct=_direct(message.direct),
        credited=decode_credited(message.credited),
        max_touches=message.max_touches,
        grouping=decode_grouping(message.channel_grouping, "journeys.channel_grouping"),
        transforms=decode_transforms(message.path_transforms),
    )


def decode_transforms(messages: Iterable[pb.PathTransform]) -> tuple[TransformStep, ...]:
    """What is done to paths, in order."""
    return tuple(
        TransformStep(_TRANSFORMS[step.kind], tuple(sorted(step.channels))) for step in messages
    )


def encode_definition(definition: JourneyDefinition) -> pb.JourneyDefinition:
    """The definition with every default filled in."""
    message = pb.JourneyDefinition(
        event_name=definition.event_name,
        unit_type=definition.unit_type,
        lookback=encode_duration(definition.lookback_us),
        repeat_rule=_REPEATS_OF[definition.repeats],
        stitching=STITCHING_OF[definition.stitching],
        windows=[
            pb.Window(
                channel=window.channel,
                interaction=window.interaction,
                lookback=encode_duration(window.lookback_us),
            )
            for window in definition.windows
        ],
        associations=[
            pb.Association(
                touch_property=pair.touch_property, conversion_property=pair.conversion_property
            )
            for pair in definition.associations
        ],
        direct=pb.DirectRule(
            handling=_DIRECT_OF[definition.direct.handling], channels=definition.direct.channels
        ),
        credited=_encoded_key(definition.credited),
        max_touches=definition.max_touches,
        path_transforms=[
            pb.PathTransform(kind=_TRANSFORMS_OF[step.transform], channels=step.channels)
            for step in definition.transforms
        ],
    )
    if definition.grouping != AS_SENT:
        message.channel_grouping.CopyFrom(encode_grouping(definition.grouping))
    for name, time_us in (("start_time", definition.start_us), ("end_time", definition.end_us)):
        if time_us is not None:
            getattr(message, name).CopyFrom(encode_time(time_us))
    for name in ("conversion_filter", "touch_filter"):
        if (condition := getattr(definition, name)) is not None:
            getattr(message, name).CopyFrom(encode_filter(condition))
    return message


def _filter(
    message: pb.JourneyDefinition,
    name: str,
    fields: frozenset[str],
    faults: list[FieldViolation],
) -> Filter | None:
    if not message.HasField(name):  # type: ignore[arg-type]
        return None
    path = f"journeys.{name}"
    found: filter_pb2.Filter = getattr(message, name)
    condition = decode_filter(found, path, faults)
    faults += filter_faults(condition, path, fields)
    return condition


def _window(number: int, message: pb.Window) -> Window:
    field = f"journeys.windows[{number}].lookback"
    return Window(message.channel, message.interaction, microseconds(field, message.lookback))


def _direct(message: pb.DirectRule) -> DirectRule:
    channels = tuple(sorted(message.channels)) or DIRECT_CHANNELS
    return DirectRule(_DIRECT.get(message.handling, Direct.KEEP), channels)


def decode_credited(message: pb.CreditKey) -> CreditKey:
    """What is credited; channels where the message names nothing."""
    if message.WhichOneof("kind") == "property":
        return TouchProperty(message.property)
    return _FIELDS.get(message.field, TouchField.CHANNEL)


def _encoded_key(key: CreditKey) -> pb.CreditKey:
    if isinstance(key, TouchProperty):
        return pb.CreditKey(property=key.key)
    return pb.CreditKey(field=_FIELDS_OF[key])
