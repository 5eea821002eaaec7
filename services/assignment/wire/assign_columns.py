"""An Assign request of many plain units, as columns, straight from its bytes.

To decode a message for every unit and to hold it against the contract takes longer than to decide.
What almost every large request is, one short id a unit and all of one type, can be proved from the
bytes: they are exactly what an encoder writes for such units, followed by exactly what it writes
for the experiments. Whatever is not proved is decoded the usual way.
"""

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone_assignment.bulk import IdColumn

from services.assignment.application.assign_many import FEWEST, AssignMany
from services.assignment.domain.experiment import ID, UNIT_TYPE
from services.assignment.wire.decode_assign import MOST_EXPERIMENTS, MOST_UNITS

# A unit is `0A w 0A u 0A k <type> 12 s <id>`: tags and the lengths of what follows, one byte each
# below 128.
_FIRST, _SECOND, _ONE_BYTE = 0x0A, 0x12, 0x80
_BEFORE_TYPE = 6
_LONGEST_UNIT = 2 + _ONE_BYTE
_LONGEST_EXPERIMENTS = MOST_EXPERIMENTS * 65
_SPACE, _PERCENT, _TILDE = 0x20, 0x25, 0x7E
_Bytes = NDArray[np.uint8]
_Places = NDArray[np.intp]


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
    found = _ids(np.frombuffer(body, np.uint8), kind.encode())
    if found is None or not FEWEST <= len(found[0]) <= MOST_UNITS:
        return None
    ids, end = found
    experiments = _experiments(body[end:])
    return None if experiments is None else AssignMany(kind, ids, experiments)


def _type_of_first(body: bytes) -> str | None:
    end = _BEFORE_TYPE + body[_BEFORE_TYPE - 1]
    kind = body[_BEFORE_TYPE:end].decode("latin-1")
    return kind if UNIT_TYPE.fullmatch(kind) else None


def _ids(data: _Bytes, kind: bytes) -> tuple[IdColumn, int] | None:
    """The ids and where they end, if the bytes begin with units of one printable id of this type,
    and with no other bytes between them.
    """
    size = len(kind)
    width = size + 8
    # What stands before every id; elsewhere it cannot stand, or the lengths below contradict it.
    last = len(data) - size - 3
    found = np.flatnonzero((data[:last] == _FIRST) & (data[size + 2 : size + 2 + last] == _SECOND))
    heads = found[data[found + 1] == size] - 4
    if not len(heads) or heads[0]:
        return None
    frames = _frames(data, heads, width)
    sizes = frames[:, -1].astype(np.int64)
    starts = heads + width
    ends = starts + sizes
    if sizes.min() < 1 or sizes.max() + size + 6 >= _ONE_BYTE or ends[-1] > len(data):
        return None
    if not (frames == _written(frames[:, -1], kind)).all() or (heads[1:] != ends[:-1]).any():
        return None
    whole = data[: ends[-1]]
    # No other is within the contract, or needs to be fast.
    if _unprintable(whole) != _unprintable(frames):
        return None
    plain = np.count_nonzero(whole == _PERCENT) == np.count_nonzero(frames == _PERCENT)
    column = IdColumn(whole, starts, sizes, plain=True)
    return column if plain else _alone(column), len(whole)


def _frames(data: _Bytes, heads: _Places, width: int) -> _Bytes:
    """The bytes from each of these places on, a row each."""
    items: NDArray[Any] = np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))
    return items[heads].view(np.uint8).reshape(len(heads), width)


def _written(sizes: _Bytes, kind: bytes) -> _Bytes:
    """What an encoder writes before ids of these sizes, a row each."""
    size = len(kind)
    rows = np.empty((len(sizes), size + 8), np.uint8)
    rows[:] = np.frombuffer(
        bytes([_FIRST, 0, _FIRST, 0, _FIRST, size, *kind, _SECOND, 0]), np.uint8
    )
    np.add(sizes, size + 6, out=rows[:, 1])
    np.add(sizes, size + 4, out=rows[:, 3])
    rows[:, -1] = sizes
    return rows


def _unprintable(data: _Bytes) -> int:
    """How many bytes are no printable ASCII."""
    # Below a space the difference wraps around to more than any printable byte.
    return int(np.count_nonzero((data - np.uint8(_SPACE)) > np.uint8(_TILDE - _SPACE)))


def _alone(ids: IdColumn) -> IdColumn:
    """The ids with nothing between them, as a column wants those that are not plain."""
    edges = np.zeros(len(ids.data) + 1, np.int8)
    edges[ids.starts] = 1
    edges[ids.starts + ids.sizes] = -1
    written = ids.data[np.cumsum(edges[:-1], dtype=np.int8).view(np.bool_)]
    return IdColumn(written, np.cumsum(ids.sizes) - ids.sizes, ids.sizes)


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
