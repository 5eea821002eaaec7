"""Messages of the contract in one option: FIELD=VALUE,FIELD=VALUE."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import typer
import yaml
from google.protobuf.message import Message

from services.cli.ascode.build import ANY_PROJECT, Builder
from services.cli.ascode.faults import Text
from services.cli.ascode.rules import violations

M = TypeVar("M", bound=Message)
# A comma that is in no list.
_BETWEEN = re.compile(r",(?![^\[]*\])")


def read_fields(option: str, shown: str, fields: str, into: M) -> M:
    """The message with these fields, named and written as in files; enums in any case.

    BadParameter names the option, what was `shown` to it, the field and what is allowed.
    """
    pairs = [pair.partition("=") for pair in _BETWEEN.split(fields)] if fields else []
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise wrong(option, shown, "allowed: FIELD=VALUE, several with a comma between")
    text = ", ".join(f"{name.strip()}: {value.strip()}" for name, _, value in pairs)
    try:
        node: Any = yaml.compose(f"{{{text}}}", yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise wrong(option, shown, "allowed: FIELD=VALUE, several with a comma between") from error
    builder = Builder(Text(option, ""), ANY_PROJECT, any_case=True)
    fields_by_name: Any = into.DESCRIPTOR.fields_by_name
    builder.fill(into, node, fields_by_name)
    if builder.faults:
        raise wrong(option, shown, builder.faults[0].message)
    require_valid(option, shown, into)
    return into


def require_valid(option: str, shown: str, message: Message) -> None:
    """BadParameter where the message breaks a rule that the contract states."""
    for path, description in violations(message):
        raise wrong(option, shown, f"{path} {description}".strip())


def wrong(option: str, shown: str, why: str) -> typer.BadParameter:
    """The error of an option: its name, its value, and what is wrong or allowed."""
    return typer.BadParameter(f"{option} is {shown!r}; {why}")
