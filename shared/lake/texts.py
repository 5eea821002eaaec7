"""Texts of queries: each is written once, however often it is asked.

To write the text of an expression takes the processor longer than to run it on some thousand
rows, so texts are kept. A text is found under the whole expression: every name, number and text in
it, and every column of its tables. Two expressions that differ in anything have two texts, so that
whoever finds one has asked for exactly it. Of a table there is the name alone: where its rows are,
and whose they are, the connection knows.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pyarrow as pa
from ibis import ir
from ibis.backends.duckdb.converter import DuckDBPyArrowData
from ibis.common.grounds import Concrete
from ibis.expr import operations as ops

MOST_CHARACTERS = 32_000_000
"""All texts that are kept have at most so many; those used last stay."""
Structure = tuple[Hashable, ...]


class Texts:
    """Texts by the digest of what they ask, of at most so many characters together. Safe to use
    from several threads; two that need the same text at one time both write it.
    """

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._characters = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, digest: bytes, write: Callable[[], str]) -> str:
        """The text of a structure, known by its digest, written now where it is not kept."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                return self._kept[digest]
        text = write()
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = text
                self._characters += len(text)
            while self._characters > self._most:
                self._characters -= len(self._kept.popitem(last=False)[1])
        return text


_TEXTS = Texts(MOST_CHARACTERS)


def text_of(expression: ir.Table, texts: Texts = _TEXTS) -> str | None:
    """The text of a query for the engine of its tables; None for one that brings its own rows."""
    structure = structure_of(expression)
    if structure is None:
        return None
    # A structure takes several times the room of its text.
    digest = hashlib.sha256(repr(structure).encode()).digest()
    return texts.of(digest, lambda: str(expression.get_backend().compile(expression)))


def answer_of(expression: ir.Table) -> pa.Table:
    """The rows of an expression."""
    text = text_of(expression)
    if text is None:
        return expression.to_pyarrow()
    rows = expression.get_backend().con.sql(text).to_arrow_table()
    return expression.__pyarrow_result__(rows, data_mapper=DuckDBPyArrowData)


def structure_of(expression: ir.Table) -> Structure | None:
    """All that the text of an expression follows from; None where it holds rows of its own.

    Nodes are told by the order in which they are met, so that equal structures are equal graphs.
    """
    root = expression.op()
    nodes, places = [root], {id(root): 0}
    found: list[Hashable] = []

    def told(argument: Any) -> Any:
        if isinstance(argument, ops.Node):
            if id(argument) not in places:
                places[id(argument)] = len(nodes)
                nodes.append(argument)
            return places[id(argument)]
        if isinstance(argument, tuple):
            return (tuple, *map(told, argument))
        # Before the mapping: a schema is one, and knows itself whether it equals another.
        if isinstance(argument, Concrete):
            return argument
        if isinstance(argument, Mapping):
            return (dict, *((name, told(value)) for name, value in argument.items()))
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0, but not as texts.
        return type(argument), repr(argument)

    for node in nodes:
        if isinstance(node, ops.InMemoryTable):
            return None
        arguments = (
            (node.name, node.schema, node.namespace)
            if isinstance(node, ops.DatabaseTable)
            else node.__args__
        )
        found.append((type(node), *map(told, arguments)))
    return tuple(found)
