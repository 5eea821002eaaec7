"""The edge log of one project in memory, as far as readers see it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.identity.graph import Edges, Flags, Integers, Units
from shared.identity.policy import IdentityPolicy

UnitId = tuple[str, str]
"""Type and id."""

TEXT = pa.large_string()
# Between type and id: a character that neither may hold.
_SEPARATOR = "\x1f"
_DIGEST_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class EdgeLog:
    """Entries in log order, and the units that they name in the order of their first entry.

    `names` are the units as one text each, `unit_ids` the ids alone, `types` the number of each
    one's type in `type_names`. `digest` is the sum of the content digests in 64 bits: logs with
    one position and one digest hold the same events.
    """

    edges: Edges
    event_ids: pa.Array
    names: pa.Array
    unit_ids: pa.Array
    types: Integers
    type_names: tuple[str, ...]
    position: int = 0
    digest: int = 0

    def __len__(self) -> int:
        return len(self.edges)

    def extended(self, rows: pa.Table) -> "EdgeLog":
        """The log with later entries: identify events in log order, by the names of the layout."""
        types = _encoded(_both(rows, "unit_type"), self.type_names)
        unit_ids = _both(rows, "unit_id").cast(TEXT)
        type_texts = _both(rows, "unit_type").cast(TEXT)
        separator = pa.scalar(_SEPARATOR, TEXT)
        tokens = pc.binary_join_element_wise(type_texts, unit_ids, separator)
        codes, fresh = _numbered(tokens, self.names)
        of_rows = Edges(
            codes[0::2],
            codes[1::2],
            rows["event_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(),
            pc.equal(rows["action"], "unlink").fill_null(False).to_numpy().astype(np.bool_),
        )
        digests = rows["content_digest"].to_numpy().astype(np.int64)
        return EdgeLog(
            edges=_joined(self.edges, of_rows),
            event_ids=_chained(self.event_ids, rows["event_id"]),
            names=_chained(self.names, tokens.take(pa.array(fresh))),
            unit_ids=_chained(self.unit_ids, unit_ids.take(pa.array(fresh))),
            types=np.concatenate([self.types, types.codes[fresh]]),
            type_names=types.names,
            position=int(rows["position"][-1].as_py()),
            digest=(self.digest + int(digests.sum())) & _DIGEST_MASK,
        )

    def unit(self, code: int) -> UnitId:
        """The unit with a number."""
        return self.type_names[self.types[code]], self.unit_ids[code].as_py()

    def codes(self, units: Sequence[UnitId]) -> dict[UnitId, int]:
        """The numbers of those units that the log names."""
        wanted = {
            f"{id_type}{_SEPARATOR}{unit_id}": (id_type, unit_id) for id_type, unit_id in units
        }
        texts = list(wanted)
        places = pc.index_in(self.names, value_set=pa.array(texts, TEXT))
        found = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
        numbers = places.take(pa.array(found)).to_pylist()
        return {wanted[texts[n]]: code for n, code in zip(numbers, found.tolist(), strict=True)}

    def units(self, policy: IdentityPolicy) -> Units:
        """The units as a policy sees them."""
        names = self.type_names
        return Units(
            self.types,
            _blocked(self.unit_ids, policy),
            np.array([policy.limit(name) for name in names], dtype=np.int64),
            np.array([policy.rank(name) for name in names], dtype=np.int64),
        )


def empty_log() -> EdgeLog:
    """The log before its first entry."""
    none: Integers = np.zeros(0, dtype=np.int64)
    texts = pa.array([], TEXT)
    edges = Edges(none, none, none, np.zeros(0, dtype=np.bool_))
    return EdgeLog(edges, texts, texts, texts, none, ())


@dataclass(frozen=True, slots=True)
class _Types:
    codes: Integers
    names: tuple[str, ...]


def _both(rows: pa.Table, column: str) -> pa.Array:
    """A column of the unit and of the other unit, entry by entry: the order of first mention."""
    ends = pa.chunked_array(rows[column].chunks + rows[f"other_{column}"].chunks, pa.string())
    places = np.arange(2 * rows.num_rows, dtype=np.int64).reshape(2, -1).T.ravel()
    return ends.combine_chunks().take(pa.array(places))


def _encoded(types: pa.Array, known: tuple[str, ...]) -> _Types:
    """Each type's number; types that are not known get the next ones, as they come."""
    found = pc.unique(types).to_pylist()
    names = known + tuple(name for name in found if name not in known)
    codes = pc.index_in(types, value_set=pa.array(names, types.type))
    return _Types(codes.to_numpy().astype(np.int64), names)


def _numbered(tokens: pa.Array, known: pa.Array) -> tuple[Integers, Integers]:
    """The number of each unit, and the places where those that are new come first."""
    codes: Integers = np.full(len(tokens), -1, dtype=np.int64)
    if len(known):
        found = pc.index_in(tokens, value_set=known).fill_null(-1)
        codes = found.to_numpy().astype(np.int64)
    unknown = np.flatnonzero(codes < 0)
    new = tokens if len(unknown) == len(tokens) else tokens.take(pa.array(unknown))
    # Numbers are given in the order of first mention: a new one is above all before it.
    numbers = new.dictionary_encode().indices.to_numpy().astype(np.int64)
    highest = np.maximum.accumulate(numbers)
    first = np.flatnonzero(np.diff(highest, prepend=-1))
    codes[unknown] = len(known) + numbers
    return codes, unknown[first]


def _joined(before: Edges, after: Edges) -> Edges:
    return Edges(
        np.concatenate([before.first, after.first]),
        np.concatenate([before.second, after.second]),
        np.concatenate([before.times_us, after.times_us]),
        np.concatenate([before.unlinks, after.unlinks]),
    )


def _chained(before: pa.Array, after: pa.Array | pa.ChunkedArray) -> pa.Array:
    chunks = after.chunks if isinstance(after, pa.ChunkedArray) else [after]
    return pa.concat_arrays([before, *(chunk.cast(TEXT) for chunk in chunks)])


def _blocked(unit_ids: pa.Array, policy: IdentityPolicy) -> Flags:
    """Which ids are placeholders: those of the policy, and nothing but zeros and hyphens."""
    if not len(unit_ids):
        return np.zeros(0, dtype=np.bool_)
    bare = pc.utf8_lower(pc.utf8_trim_whitespace(unit_ids))
    named = pc.is_in(bare, value_set=pa.array(policy.blocked_ids, TEXT))
    zeros = pc.equal(pc.ascii_trim(bare, "0-"), "")
    flags: Flags = pc.or_(named, zeros).to_numpy(zero_copy_only=False).astype(np.bool_)
    return flags
