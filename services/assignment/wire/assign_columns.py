"""An Assign request of many plain units, as columns, straight from its bytes.

To decode a message for every unit and to hold it against the contract takes longer than to decide.
What almost every large request is, one short id a unit and all of one type, can be proved from the
bytes: they are exactly what an encoder writes for such units, followed by exactly what it writes
for the experiments. Whatever is not proved is decoded the usual way.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from touchstone.assignment.v1 import assignment_service_pb2 as pb

from services.assignment.application.assign_many import FEWEST, AssignMany
from services.assignment.domain.experiment import ID, UNIT_TYPE
from services.assignment.wire.decode_assign import MOST_EXPERIMENTS, MOST_UNITS

# A unit is `0A w 0A u 0A k <type> 12 s <id>`: tags and the lengths of what follows, one byte each
# below 128.
_FIRST, _SECOND, _ONE_BYTE = 0x0A, 0x12, 0x80
_BEFORE_TYPE = 6
_LONGEST_UNIT = 2 + _ONE_BYTE
_LONGEST_EXPERIMENTS = MOST_EXPERIMENTS * 65
_SPACE, _TILDE = 0x20, 0x7E
_Bytes = NDArray[np.uint8]
_Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Units:
    starts: _Places
    """Where the ids start, and the place behind the last of each."""
    ends: _Places


def assign_many(body: bytes) -> AssignMany | None:
    """The command of a request that keeps the contract for certain; None when it is not certain."""
    if (
        not FEWEST * (_BEFORE_TYPE + 4)
        <= len(body)
        <= (MOST_UNITS * _LONGEST_UNIT + _LONGEST_EXPERIMENTS)
    ):
        return None
    kind = _type_of_first(body)
    if kind is None:
        return None
    data = np.frombuffer(body, np.uint8)
    units = _units(data, kind.encode())
    if units is None or not FEWEST <= len(units.starts) <= MOST_UNITS:
        return None
    ids = _ids(data, units)
    experiments = _experiments(body[units.ends[-1] :])
    if ids is None or experiments is None:
        return None
    return AssignMany(kind, ids, experiments)


def _type_of_first(body: bytes) -> str | None:
    end = _BEFORE_TYPE + body[_BEFORE_TYPE - 1]
    kind = body[_BEFORE_TYPE:end].decode("latin-1")
    return kind if UNIT_TYPE.fullmatch(kind) else None


def _units(data: _Bytes, kind: bytes) -> _Units | None:
    """Where the ids are, if the bytes begin with units of one id of this type, and with no other
    bytes between them.
    """
    size = len(kind)
    # What stands before every id; elsewhere it cannot stand, or the lengths below contradict it.
    last = len(data) - size - 3
    found = np.flatnonzero((data[:last] == _FIRST) & (data[size + 2 : size + 2 + last] == _SECOND))
    found = found[data[found + 1] == size]
    if not len(found) or found[0] != _BEFORE_TYPE - 2:
        return None
    types = data[found[:, None] + np.arange(2, size + 2)]
    if types.tobytes() != kind * len(found):
        return None
    lengths = data[found + size + 3].astype(np.intp)
    starts = found + size + 4
    ends = starts + lengths
    whole = lengths + size + 6
    if lengths.min() < 1 or whole.max() >= _ONE_BYTE or ends[-1] > len(data):
        return None
    heads = found - 4
    follows = (heads[1:] == ends[:-1]).all()
    tags = (data[heads] == _FIRST).all() and (data[heads + 2] == _FIRST).all()
    sizes = (data[heads + 1] == whole).all() and (data[heads + 3] == whole - 2).all()
    return _Units(starts, ends) if follows and tags and sizes else None


def _ids(data: _Bytes, units: _Units) -> pa.StringArray | None:
    """The ids, if they are all printable ASCII: that is within the contract, and no other needs to
    be fast.
    """
    edges = np.zeros(len(data) + 1, np.int8)
    edges[units.starts] = 1
    edges[units.ends] = -1
    written = data[np.cumsum(edges[:-1], dtype=np.int8).view(np.bool_)]
    if written.min() < _SPACE or written.max() > _TILDE:
        return None
    offsets = np.zeros(len(units.starts) + 1, np.int32)
    np.cumsum(units.ends - units.starts, out=offsets[1:])
    return pa.StringArray.from_buffers(
        len(units.starts), pa.py_buffer(offsets), pa.py_buffer(written)
    )


def _experiments(rest: bytes) -> tuple[str, ...] | None:
    """The experiments, if the rest of a request is these and nothing else."""
    try:
        request = pb.AssignRequest.FromString(rest)
    except DecodeError:
        return None
    experiments = tuple(request.experiments)
    plain = pb.AssignRequest(experiments=experiments).SerializeToString()
    certain = (
        plain == rest
        and len(experiments) <= MOST_EXPERIMENTS
        and len(set(experiments)) == len(experiments)
        and all(ID.fullmatch(one) for one in experiments)
    )
    return experiments if certain else None
