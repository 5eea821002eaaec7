"""The contract's rules for text and numbers, checked by columns.

The rules are read from the contract, so that they cannot drift from it. A check says of each row
whether it keeps the rules for certain; who needs to know what is wrong asks protovalidate.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

Flags = npt.NDArray[np.bool_]
Check = Callable[[pa.Array], Flags]
# The one pattern of columns in which every value is different: it is checked by bytes.
_NO_CONTROLS = "^[^\\x00-\\x1f\\x7f]+$"
_SPACE, _DELETE = 0x20, 0x7F
_REMEMBERED, _LONGEST_NAME = 4096, 256


def text_lengths(column: pa.Array) -> npt.NDArray[np.int32]:
    """The bytes that each text of a column without nulls takes."""
    return np.diff(_offsets(column))


def text_bytes(column: pa.Array) -> npt.NDArray[np.uint8]:
    """The bytes of all texts of a column, one after another."""
    offsets, data = _offsets(column), column.buffers()[2]
    if data is None or not len(offsets):
        return np.empty(0, np.uint8)
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]


def checks_of(message: Descriptor) -> dict[str, Check]:
    """The check of each field of a message that has text or numbers and a rule."""
    checks = {}
    for field in message.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE or field.is_repeated:
            continue
        parts = list(_parts(field))
        if parts:
            checks[field.name] = _all(parts)
    return checks


def _all(parts: list[Check]) -> Check:
    def check(column: pa.Array) -> Flags:
        kept = parts[0](column)
        for part in parts[1:]:
            kept &= part(column)
        return kept

    return check


def _parts(field: FieldDescriptor) -> Iterator[Check]:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    for kind, of_kind in rules.ListFields():
        if kind.name not in ("string", "double", "int64", "enum"):
            raise NotImplementedError(f"{field.full_name} has a rule {kind.name}")
        for rule, limit in of_kind.ListFields():
            name = f"{kind.name}.{rule.name}"
            if name == "enum.defined_only" and field.enum_type is not None:
                yield _among([value.number for value in field.enum_type.values])
            elif name in _PARTS:
                yield _PARTS[name](limit)
            else:
                raise NotImplementedError(f"{field.full_name} has a rule {name}")


def _min_len(limit: int) -> Check:
    # A text of n characters has at least n bytes, and one of n bytes at least n / 4 characters.
    return lambda column: text_lengths(column) >= (limit if limit == 1 else 4 * limit)


def _max_bytes(limit: int) -> Check:
    return lambda column: text_lengths(column) <= limit


def _pattern(pattern: str) -> Check:
    return _no_controls if pattern == _NO_CONTROLS else _by_value(pattern)


def _no_controls(column: pa.Array) -> Flags:
    content = text_bytes(column)
    control = (content < _SPACE) | (content == _DELETE)
    kept = text_lengths(column) > 0
    if control.any():
        before = np.concatenate([[0], np.cumsum(control)])
        offsets = _offsets(column) - _offsets(column)[0]
        kept &= before[offsets[1:]] == before[offsets[:-1]]
    return kept


def _by_value(pattern: str) -> Check:
    """For columns of few different values: each is held against the pattern once."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise NotImplementedError(f"a pattern that is not of the whole text: {pattern}")
    # Python's $ allows for a line feed behind it, the contract's does not.
    matches = lru_cache(_REMEMBERED)(re.compile(f"(?:{pattern[1:-1]})").fullmatch)

    def check(column: pa.Array) -> Flags:
        coded = column.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        # What is longer than any name is not worth remembering, and is judged by itself.
        good = np.array([len(t) <= _LONGEST_NAME and matches(t) is not None for t in texts], bool)
        kept: Flags = good[coded.indices.to_numpy()]
        return kept

    return check


def _finite(_limit: bool) -> Check:
    return lambda column: np.isfinite(_numbers(column))


def _at_least(limit: float) -> Check:
    return lambda column: _numbers(column) >= limit


def _among(allowed: list[int]) -> Check:
    return lambda column: np.isin(column.to_numpy(zero_copy_only=False), allowed)


_PARTS: dict[str, Callable[..., Check]] = {
    "string.min_len": _min_len,
    "string.max_bytes": _max_bytes,
    "string.pattern": _pattern,
    "double.finite": _finite,
    "double.gte": _at_least,
    "int64.gte": _at_least,
}


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """Absent numbers keep every rule."""
    filled = pc.fill_null(column, 0) if column.null_count else column
    numbers: npt.NDArray[np.float64] = filled.to_numpy(zero_copy_only=False)
    return numbers


def _offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    first = column.offset
    return np.frombuffer(column.buffers()[1], np.int32)[first : first + len(column) + 1]
