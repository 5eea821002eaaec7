"""One page of layers, by id."""

from dataclasses import dataclass

from services.assignment.domain.layer import Layer
from services.assignment.ports import Configuration


@dataclass(frozen=True, slots=True)
class ListLayers:
    """Which ones: those behind the id `after`."""

    project: str
    size: int
    after: str | None = None


def list_layers(command: ListLayers, configuration: Configuration) -> tuple[list[Layer], str]:
    """The page and the id of its last layer, empty when nothing follows."""
    # One more than asked for tells whether anything follows.
    found = configuration.layers.page(command.project, command.after or "", command.size + 1)
    page = list(found[: command.size])
    return page, page[-1].layer_id if len(found) > command.size else ""
