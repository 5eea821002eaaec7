"""One page of layers, by id."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.assignment.domain.layer import Layer
from services.assignment.ports import Configuration

SORT_KEY = r"([a-z][a-z0-9-]{0,62})"
"""The form of a sort key: the id."""


@dataclass(frozen=True, slots=True)
class ListLayers:
    """Which ones: those behind the id in `after`, the groups of SORT_KEY."""

    project: str
    size: int
    after: Sequence[str] | None = None


def list_layers(command: ListLayers, configuration: Configuration) -> tuple[list[Layer], str]:
    """The page and the id of its last layer, empty when nothing follows."""
    # One more than asked for tells whether anything follows.
    after = command.after[0] if command.after else ""
    found = configuration.layers.page(command.project, after, command.size + 1)
    page = list(found[: command.size])
    return page, page[-1].layer_id if len(found) > command.size else ""
