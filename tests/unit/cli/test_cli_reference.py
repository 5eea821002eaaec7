"""The reference names every command and every option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from services.cli.main import app

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_and_option_is_in_the_reference() -> None:
    text = REFERENCE.read_text()
    sections = {
        section.partition("\n")[0].strip("` "): section for section in text.split("\n### ")[1:]
    }
    found = dict(commands(typer.main.get_command(app), "touchstone"))
    shared = {
        f"[{name}](#{name.replace(' ', '-')})": text.partition(f"\n## {name.capitalize()}\n")[
            2
        ].partition("\n## ")[0]
        for name in ("journeys", "models", "beside figures")
    }
    assert all(shared.values())
    assert sections.keys() == found.keys()
    for name, command in found.items():
        # What several commands share stands once, and is linked.
        said = sections[name] + "".join(
            text for link, text in shared.items() if f"| {link} |" in sections[name]
        )
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--help", "--data", "--output"):
                    assert f"`{option}`" in said, f"{name} {option}"
