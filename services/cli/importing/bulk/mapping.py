"""Which column of a file is which field of an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from services.cli.importing.bulk.casting import cast
from services.cli.importing.bulk.chunks import ChunkSource
from services.cli.importing.bulk.fields import SERVICE_COLUMNS, Kind
from services.cli.importing.bulk.instants import InstantRules
from services.cli.options import parse_pair
from shared.errors import invalid, shown

# What an event says sent it when its file does not.
_SOURCE = "import"


@dataclass(frozen=True, slots=True)
class EventMapping:
    """What a file means: `named` are the columns of fields that are called otherwise, `constants`
    the values of fields that are the same in every row. A constant goes before a column.
    `defaults` are of fields that a file with columns has no column of.
    """

    kind: Kind
    rules: InstantRules
    named: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)
    ignore_unknown: bool = False
    defaults: Mapping[str, pa.Scalar] = field(default_factory=dict)

    @property
    def columns(self) -> Mapping[str, str]:
        """The column of each field that a file may have."""
        fields = (field.name for field in self.kind.fields if field.name not in self.constants)
        taken = set(self.named.values())
        return {
            name: self.named.get(name, name)
            for name in fields
            if name in self.named or name not in taken
        }

    def fit(self, source: ChunkSource) -> None:
        """Makes the file ready to be read. Raises INVALID_ARGUMENT when a column is missing, is
        not known, stands there twice, or cannot be what it is to be.
        """
        columns = self.columns
        if source.schema is not None:
            self._check_names(source.name, source.schema.names, columns)
            self._check_types(source.name, source.schema, columns)
            there = set(source.schema.names)
            columns = {name: column for name, column in columns.items() if column in there}
        if source.schema is None:
            # A line may say what a constant overrules.
            columns = {**columns, **{name: name for name in self.constants}}
        source.want(list(dict.fromkeys(columns.values())), strict=not self.ignore_unknown)

    def has_ids(self, source: ChunkSource) -> bool | None:
        """Whether the events of a file have ids of their own; None when each row may."""
        if "event_id" in self.constants:
            return True
        if source.schema is None:
            return None
        return self.columns.get("event_id") in source.schema.names

    def column_of(self, path: str) -> str:
        """The column that a path of the contract comes from; empty when it comes from none."""
        for one in self.kind.fields:
            if path == one.path or path.startswith((f"{one.path}.", f"{one.path}[")):
                return self.columns.get(one.name, "")
        return ""

    def _check_names(self, file: str, names: Sequence[str], columns: Mapping[str, str]) -> None:
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise invalid("FILE", file, f"columns of different names; {shown(doubles[0])} is twice")
        listed = ", ".join(names)
        for name, column in self.named.items():
            if column not in names:
                raise invalid("--map", f"{column}={name}", f"a column of {file}: {listed}")
        for one in self.kind.fields:
            known = one.name in self.constants or columns.get(one.name) in names
            if one.required and not known:
                raise invalid(
                    "FILE",
                    file,
                    f"a file with a column {one.name}; it has {listed}; say --map "
                    f"COLUMN={one.name} or --set {one.name}=VALUE",
                )
        strangers = set(names) - set(columns.values()) - SERVICE_COLUMNS - set(self.constants)
        if strangers and not self.ignore_unknown:
            allowed = ", ".join(one.name for one in self.kind.fields)
            raise invalid(
                "FILE",
                file,
                f"a file with no other columns than {allowed}; it has "
                f"{', '.join(sorted(strangers))}; map them with --map, or pass them over with "
                "--ignore-unknown",
            )

    def _check_types(self, file: str, schema: pa.Schema, columns: Mapping[str, str]) -> None:
        for name, column in columns.items():
            if column in schema.names:
                none = pa.array([], schema.field(column).type)
                try:
                    cast(self.kind.field(name).form, none, self.rules)
                except (TypeError, pa.ArrowException) as error:
                    raise invalid("FILE", file, f"another column {column}: it {error}") from error


def read_mapping(
    kind: Kind,
    rules: InstantRules,
    maps: Sequence[str],
    constants: Sequence[str],
    *,
    ignore_unknown: bool,
) -> EventMapping:
    """The mapping by the options. Raises INVALID_ARGUMENT or BadParameter for one that does not
    hold.
    """
    named: dict[str, str] = {}
    for text in maps:
        column, name = parse_pair(text, "--map", "customer=unit_id")
        if name in named:
            raise invalid("--map", text, f"one column for {name}; {named[name]} is it already")
        named[_field_name(kind, name, "--map")] = column
    values: dict[str, pa.Scalar] = {}
    for text in constants:
        name, value = parse_pair(text, "--set", "unit_type=user")
        if _field_name(kind, name, "--set") in {*named, *values}:
            raise invalid("--set", text, f"one --map or --set for {name}")
        column, wrong = cast(kind.field(name).form, pa.array([value]), rules)
        if wrong:
            raise invalid("--set", text, wrong[0].reason.rpartition("allowed: ")[2])
        values[name] = column[0]
    defaults = {"source": pa.scalar(_SOURCE)}
    return EventMapping(kind, rules, named, values, ignore_unknown, defaults)


def _field_name(kind: Kind, name: str, option: str) -> str:
    names = [one.name for one in kind.fields]
    if name not in names:
        raise invalid(option, name, f"a field of {kind.name}: {', '.join(names)}")
    return name
