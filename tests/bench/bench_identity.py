"""A million links between ids: what it takes to know which are one thing.

The reference does the least that any program must: join the ids of all links, without limits,
unlinks, canonical ids, or names. What is found is checked against it: with limits that nothing
breaks, the identities are its components.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from scipy import sparse
from scipy.sparse import csgraph

from shared.identity.belonging import Stitching, belonging
from shared.identity.graph import Edges, Identities, Integers, Units, fold
from shared.identity.identity import Identity
from shared.identity.policy import IdentityPolicy
from shared.identity.reader import IdentityReader
from shared.lake.layout import TABLES
from shared.lake.snapshot import LakeEventTables
from shared.lake.watermark import Watermark
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from tests.bench.report import BenchRow, compared

AREA = "identity"
LINKS = 1_000_000
CUSTOMERS = 400_000
DEVICES_EACH = 3
STRAY = 0.01
"""The part of the links that name a wrong customer: these are refused."""
START_US = 1_767_225_600_000_000
NEW_LINKS = 1_000
LIMIT = IdentityPolicy().limit("device")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Links:
    """Devices and customers by number; `stray` links would break a limit."""

    devices: Integers
    customers: Integers


def run() -> list[BenchRow]:
    """The fold alone, then the way from the table to an answer."""
    links = generate(STRAY)
    reference_s, _ = fastest(lambda: components(links))
    edges, units = numbered(links)
    fold_s, folded = fastest(lambda: fold(edges, units))
    clean_edges, clean_units = numbered(generate(0.0))
    clean_s, clean = fastest(lambda: fold(clean_edges, clean_units))
    require_the_components(clean, components(generate(0.0)))
    customers = len(units.limits) - 1
    owners = {
        stitching: fastest(lambda s=stitching: belonging(folded, customers, s))[0]  # type: ignore[misc]
        for stitching in Stitching
    }
    then = owners[Stitching.POINT_IN_TIME]
    rows = [
        row("fold 1M links, 1% refused by a limit", fold_s, reference_s, "<= 8"),
        row("fold 1M links, none refused", clean_s, reference_s, "<= 4"),
        row("owners of 1.4M ids, retroactive", owners[Stitching.RETROACTIVE], reference_s, "<= 1"),
        row("owners of 1.4M ids, point in time", then, reference_s, "<= 8"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows += from_the_table(Path(folder) / "lake", links, reference_s)
    return rows


def from_the_table(lake: Path, links: Links, reference_s: float) -> list[BenchRow]:
    """First answer, answer after some more links, and answer without any."""
    writer = LakeWriter(lake, "bench", FixedClock())
    writer.append({"identifies": table(links, 0)}, 1)
    reader = IdentityReader(FixedPolicies())
    first_s, identity = timed(lambda: read(lake, reader))
    more = Links(links.devices[:NEW_LINKS], links.customers[:NEW_LINKS])
    writer.append({"identifies": table(more, len(links.devices))}, 2)
    later_s, _ = timed(lambda: read(lake, reader))
    same_s, _ = fastest(lambda: read(lake, reader))
    resolve_s, found = fastest(lambda: identity.resolve([("customer", "c7")]))
    if len(found[0].members) < 2:
        raise AssertionError("a customer with devices resolves to itself alone")
    return [
        row("first answer from the table, 1M links", first_s, reference_s, "<= 60"),
        row("answer after 1,000 more links", later_s, reference_s, "<= 30"),
        row("answer while no link was added", same_s, reference_s, "<= 0.5"),
        row("resolve one id", resolve_s, reference_s, "<= 1"),
    ]


def row(name: str, ours_s: float, reference_s: float, goal: str) -> BenchRow:
    """A row beside the components alone."""
    return compared(
        AREA,
        name,
        ours=ours_s,
        reference=reference_s,
        reference_name="scipy connected_components alone",
        unit="s",
        goal=goal,
    )


def generate(stray: float) -> Links:
    """Each link names a device of a customer and that customer, or now and then another one."""
    generator = np.random.default_rng(7)
    owners = generator.integers(0, CUSTOMERS, LINKS)
    devices = owners * DEVICES_EACH + generator.integers(0, DEVICES_EACH, LINKS)
    wrong = generator.random(LINKS) < stray
    return Links(devices, np.where(wrong, generator.integers(0, CUSTOMERS, LINKS), owners))


def components(links: Links) -> Integers:
    """The component of each device and customer, from integers: the least there is to do."""
    size = CUSTOMERS * (DEVICES_EACH + 1)
    ends = (links.devices, CUSTOMERS * DEVICES_EACH + links.customers)
    graph = sparse.coo_matrix((np.ones(LINKS, dtype=np.int32), ends), shape=(size, size))
    _, labels = csgraph.connected_components(graph, directed=False)
    return labels.astype(np.int64)


def numbered(links: Links) -> tuple[Edges, Units]:
    """The links with their units numbered by first mention, as a log has them."""
    mentions = np.empty(2 * LINKS, dtype=np.int64)
    mentions[0::2], mentions[1::2] = links.devices, CUSTOMERS * DEVICES_EACH + links.customers
    found, first, numbers = np.unique(mentions, return_index=True, return_inverse=True)
    ranks = np.empty(len(found), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(found))
    types = np.empty(len(found), dtype=np.int64)
    types[ranks] = found >= CUSTOMERS * DEVICES_EACH
    codes = ranks[numbers]
    edges = Edges(
        codes[0::2].copy(), codes[1::2].copy(), np.arange(LINKS), np.zeros(LINKS, dtype=np.bool_)
    )
    blocked = np.zeros(len(found), dtype=np.bool_)
    return edges, Units(types, blocked, np.array([LIMIT, 1]), np.array([0, 3]))


def require_the_components(found: Identities, labels: Integers) -> None:
    """Raise unless as many units are joined as the reference joins."""
    named = np.zeros(len(labels), dtype=np.bool_)
    links = generate(0.0)
    named[links.devices] = named[CUSTOMERS * DEVICES_EACH + links.customers] = True
    expected, ours = len(np.unique(labels[named])), len(np.unique(found.canonical))
    if ours != expected:
        raise AssertionError(f"{ours} identities are not the {expected} components")


def table(links: Links, begin: int) -> pa.Table:
    """The links as rows of the identifies table."""
    count = len(links.devices)
    numbers = pa.array(np.arange(begin, begin + count))
    times = pa.array(START_US + np.arange(begin, begin + count)).cast(pa.timestamp("us", tz="UTC"))
    columns = {
        "event_id": numbers.cast(pa.string()),
        "project": pa.repeat("demo", count),
        "day": times.cast(pa.date32()),
        "event_time": times,
        "receive_time": times,
        "unit_type": pa.repeat("device", count),
        "unit_id": texts("d", links.devices),
        "unit_key": pa.array(links.devices),
        "position": pa.array(np.full(count, 1 + (begin > 0))),
        "content_digest": numbers,
        "other_unit_type": pa.repeat("customer", count),
        "other_unit_id": texts("c", links.customers),
    }
    schema = TABLES["identifies"].schema
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.table(arrays, schema=schema)


def texts(prefix: str, numbers: Integers) -> pa.Array:
    """Ids such as d17."""
    return pa.array([f"{prefix}{number}" for number in numbers.tolist()], pa.string())


def read(lake: Path, reader: IdentityReader) -> Identity:
    """The identities as they are now."""
    snapshot = LakeEventTables(lake).snapshot("demo")
    watermark: Watermark = snapshot.watermark
    with snapshot.read() as tables:
        return reader.of("demo", watermark, tables)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """The time of one run in seconds, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def fastest(work: Callable[[], T], repeats: int = 3) -> tuple[float, T]:
    """The least time of some runs, in seconds, and the last result."""
    best = math.inf
    for _ in range(repeats):
        taken, result = timed(work)
        best = min(best, taken)
    return best, result
