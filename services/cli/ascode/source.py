"""From files to YAML documents: nodes that know where they stand, and no object is made of any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml

from services.cli.ascode.faults import Fault, FaultyError, Place, Text

ENDINGS = (".yaml", ".yml")
MAX_FILE_BYTES = 4 * 1024 * 1024
_MOST_DEEP = 64


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One YAML document."""

    text: Text
    node: yaml.Node


def read_documents(paths: Sequence[Path]) -> tuple[list[SourceDocument], list[Fault]]:
    """Every document of the files, and what cannot be read. BadParameter for a path without any."""
    documents: list[SourceDocument] = []
    faults: list[Fault] = []
    for file in _files(paths):
        try:
            documents += _documents(file)
        except FaultyError as error:
            faults += error.faults
    return documents, faults


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"there is no {str(path)!r}; allowed: YAML files and folders")
        found = [path]
        if path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.suffix in ENDINGS)
            if not found:
                raise typer.BadParameter(f"no file in {str(path)!r} ends in .yaml or .yml")
        for file in found:
            if (known := file.resolve()) not in seen:
                seen.add(known)
                yield file


def _documents(file: Path) -> list[SourceDocument]:
    content = file.read_bytes()
    start = Place(str(file), 1, 1)
    if len(content) > MAX_FILE_BYTES:
        message = f"the file has {len(content)} bytes; allowed: {MAX_FILE_BYTES}"
        raise FaultyError([Fault(start, message)])
    try:
        decoded = content.decode()
    except UnicodeDecodeError as error:
        raise FaultyError([Fault(start, f"the file is no UTF-8 text: {error}")]) from error
    text = Text(str(file), decoded)
    try:
        nodes = [node for node in yaml.compose_all(decoded, yaml.SafeLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        place = text.at(error.problem_mark)
        raise FaultyError([Fault(place, f"this is no YAML: {error.problem}")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise FaultyError([Fault(start, f"this is no YAML: {error}")]) from error
    faults = [fault for node in nodes for fault in _unfit(text, node, [])]
    if faults:
        raise FaultyError(faults)
    return [SourceDocument(text, node) for node in nodes]


def _unfit(text: Text, node: yaml.Node, around: list[yaml.Node]) -> Iterator[Fault]:
    """Keys that are there twice, aliases into themselves, and what is nested too deep."""
    if node in around or len(around) > _MOST_DEEP:
        allowed = f"at most {_MOST_DEEP} levels, and no alias of what it is in"
        yield Fault(text.at(node.start_mark), f"this is nested too deep; allowed: {allowed}")
        return
    within = [*around, node]
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _unfit(text, item, within)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            yield Fault(text.at(key.start_mark), "a key is no text; allowed: plain names")
        elif key.value in first:
            message = (
                f"key {key.value!r} is there twice, first in line {first[key.value]}; keep one"
            )
            yield Fault(text.at(key.start_mark), message)
        else:
            first[key.value] = key.start_mark.line + 1
        yield from _unfit(text, value, within)
