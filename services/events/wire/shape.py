"""Decode a request of many events by columns, in one call of a compiled library.

The library decodes by a descriptor. Ours is that of the contract with three changes that the wire
does not see: times are their two numbers, and what only few events have (properties, linked units)
stays as bytes.
"""

from collections.abc import Iterable

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from ptars import HandlerPool
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2

_FILE, _PACKAGE = "touchstone/shape.proto", "touchstone.shape"
_Field = descriptor_pb2.FieldDescriptorProto
_OPAQUE = frozenset({"google.protobuf.Struct"})
_TIMES = "google.protobuf.Timestamp"


class EventShape:
    """Decodes LogEventsRequest messages."""

    def __init__(self) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(_described().SerializeToString())
        file = pool.FindFileByName(_FILE)
        self._handler = HandlerPool([file]).get_for_message(
            file.message_types_by_name["LogEventsRequest"]
        )

    def columns(self, request: bytes) -> pa.StructArray:
        """The events of a valid LogEventsRequest, one row each.

        The fields are those of the contract; `event_time` is a struct of seconds and nanos, numbers
        stand for enum values, and `properties` and each of `linked_units` are encoded messages.
        """
        batch = self._handler.array_to_record_batch(pa.array([request], pa.binary()))
        return batch["events"].flatten()


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    instant = file.message_type.add(name="Instant")
    _add(instant, "seconds", 1, _Field.TYPE_INT64)
    _add(instant, "nanos", 2, _Field.TYPE_INT32)
    _copy(file, unit_pb2.DESCRIPTOR, ["UnitId"])
    _copy(file, event_pb2.DESCRIPTOR, event_pb2.DESCRIPTOR.message_types_by_name)
    _copy(file, events_service_pb2.DESCRIPTOR, ["LogEventsRequest"])
    return file


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: int) -> None:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    field.type = kind  # type: ignore[assignment]  # a number of the enum


def _copy(
    into: descriptor_pb2.FileDescriptorProto, source: FileDescriptor, names: Iterable[str]
) -> None:
    for name in names:
        message = into.message_type.add()
        source.message_types_by_name[name].CopyToProto(message)
        message.ClearField("options")
        for oneof in message.oneof_decl:
            oneof.ClearField("options")
        for field in message.field:
            field.ClearField("options")
            _simplify(field)


def _simplify(field: descriptor_pb2.FieldDescriptorProto) -> None:
    of_type = field.type_name.lstrip(".")
    if field.type == _Field.TYPE_ENUM:
        field.type = _Field.TYPE_INT32
        field.ClearField("type_name")
    elif of_type in _OPAQUE or field.name == "linked_units":
        field.type = _Field.TYPE_BYTES
        field.ClearField("type_name")
    elif of_type == _TIMES:
        field.type_name = f".{_PACKAGE}.Instant"
    elif field.type == _Field.TYPE_MESSAGE:
        field.type_name = f".{_PACKAGE}.{of_type.rsplit('.', 1)[-1]}"
