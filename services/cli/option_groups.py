"""Options that several commands share, stated once: a dataclass whose fields are options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints


def option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of its parameters that are dataclasses.

    A field of the group is annotated as an option of a command is, and has a default.
    """
    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    groups = {
        name: hints[name] for name in signature.parameters if dataclasses.is_dataclass(hints[name])
    }

    def grouped(**given: Any) -> None:
        for name, group in groups.items():
            fields = [field.name for field in dataclasses.fields(group)]
            given[name] = group(**{field: given.pop(field) for field in fields})
        command(**given)

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    found: Any = grouped
    found.__name__, found.__doc__, found.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    # This is what typer reads: the types as they are, not as text of this module.
    found.__signature__ = signature.replace(parameters=parameters)
    found.__annotations__ = {each.name: each.annotation for each in parameters}
    return grouped


def _options(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
