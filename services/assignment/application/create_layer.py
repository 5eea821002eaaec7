"""Make an empty layer."""

from dataclasses import dataclass
from datetime import datetime

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.experiment import require_id, require_unit_type
from services.assignment.domain.layer import Layer
from services.assignment.domain.revision import Revision
from services.assignment.ports import Configuration
from shared.ids import IdGenerator


@dataclass(frozen=True, slots=True)
class CreateLayer:
    """What to make."""

    project: str
    layer_id: str
    unit_type: str
    hash_version: HashVersion = HashVersion.FLAGD_V2
    display_name: str = ""


def create_layer(
    command: CreateLayer, configuration: Configuration, ids: IdGenerator, now: datetime
) -> Layer:
    """The new layer; ALREADY_EXISTS when the id is taken."""
    require_id("layer_id", command.layer_id)
    require_unit_type(command.unit_type)
    layer = empty_layer(command, ids, configuration.next_revision(command.project, now))
    configuration.layers.insert(layer)
    return layer


def empty_layer(command: CreateLayer, ids: IdGenerator, at: Revision) -> Layer:
    """A layer with a salt of its own and nobody in it."""
    return Layer(
        project=command.project,
        layer_id=command.layer_id,
        display_name=command.display_name,
        unit_type=command.unit_type,
        salt=f"layer/{ids.new()}",
        hash_version=command.hash_version,
        config_version=at.config_version,
        create_time=at.time,
    )
