"""The tables of docs/reference that follow from the code.

`python -m tests.docs.reference` writes them anew between their marks; a test fails when they
differ from what the code says.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from protos.compile import descriptor_set
from services.cli.settings import CliSettings
from shared.server.rules import Rule
from shared.settings import SERVICES, ServiceSettings, Settings
from shared.telemetry import METRICS
from tests.security.contracts import methods

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
_ENUM_VALUES = 2  # field number of EnumDescriptorProto.value


def settings() -> Iterator[str]:
    """A row for each setting, with who reads it."""
    yield "| variable | default | read by | meaning |"
    yield "|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        yield _setting(name, field, "everything")
    for name, field in CliSettings.model_fields.items():
        if name not in Settings.model_fields:
            yield _setting(name, field, "the command line")
    for name, field in ServiceSettings.model_fields.items():
        if name not in Settings.model_fields:
            yield _setting(name, field, "every service")
    for service in SERVICES:
        own = importlib.import_module(f"services.{service}.settings").Settings
        for name, field in own.model_fields.items():
            if name not in ServiceSettings.model_fields:
                yield _setting(name, field, service)


def _setting(name: str, field: Any, reader: str) -> str:
    default = "" if field.default in (None, PydanticUndefined) else str(field.default)
    shown = f"`{default}`" if default.strip("*") else "none"
    if hasattr(field.default, "total_seconds"):
        shown = f"{field.default.days} days"
    return f"| `TOUCHSTONE_{name.upper()}` | {shown} | {reader} | {field.description} |"


def errors() -> Iterator[str]:
    """A row for each reason, as the contract explains it."""
    yield "| reason | code | meaning |"
    yield "|---|---|---|"
    for file in descriptor_set(source_info=True).file:
        for place, enum in enumerate(file.enum_type):
            if enum.name != "ErrorReason":
                continue
            comments = {
                tuple(found.path): " ".join(found.leading_comments.split())
                for found in file.source_code_info.location
            }
            for number, value in enumerate(enum.value):
                if value.number:
                    comment = comments[5, place, _ENUM_VALUES, number]
                    meaning, _, code = comment.rstrip(".").rpartition(". ")
                    reason = value.name.removeprefix("ERROR_REASON_")
                    yield f"| `{reason}` | {code} | {meaning}. |"


def metrics() -> Iterator[str]:
    """A row for each metric."""
    yield "| metric | unit | meaning |"
    yield "|---|---|---|"
    for name, (unit, meaning) in sorted(METRICS.items()):
        yield f"| `{name}` | {unit} | {meaning} |"


def rpc_rules() -> Iterator[str]:
    """A row for each RPC, by service."""
    yield "| RPC | roles | changes state | longest time |"
    yield "|---|---|---|---|"
    for method in methods():
        rule = method.rule
        if rule is None:
            raise ValueError(f"{method.path} has no rule")
        longest = f"{rule.max_duration_s:g} s" if rule.max_duration_s else ""
        name = method.path.strip("/").removeprefix("touchstone.")
        yield f"| `{name}` | {_roles(rule)} | {'yes' if rule.mutation else ''} | {longest} |"


def _roles(rule: Rule) -> str:
    if rule.any_role:
        return "any key"
    return ", ".join(role.name.lower() for role in sorted(rule.roles, key=lambda r: r.value))


TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "settings": settings,
    "errors": errors,
    "metrics": metrics,
    "rpcs": rpc_rules,
}
_MARKS = re.compile(r"(<!-- table -->\n).*(<!-- end of table -->)", re.DOTALL)


def with_table(page: str, rows: Iterator[str]) -> str:
    """The page with its table replaced."""
    if not _MARKS.search(page):
        raise ValueError("the page has no <!-- table --> and <!-- end of table -->")
    table = "".join(f"{row}\n" for row in rows)
    return _MARKS.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", page)


def main() -> None:
    """Writes every table anew."""
    for name, rows in TABLES.items():
        path = FOLDER / f"{name}.md"
        path.write_text(with_table(path.read_text(), rows()))


if __name__ == "__main__":
    main()
