"""Make an empty layer."""

from dataclasses import dataclass
from datetime import datetime

from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.find import find_layer
from services.assignment.application.find_resource import Which, find_resource
from services.assignment.application.fresh_salt import fresh_salt
from services.assignment.application.schema import require_declared_unit_type
from services.assignment.domain.domain import Domain
from services.assignment.domain.domain_rules import enclosing, require_reachable
from services.assignment.domain.experiment import require_id, require_unit_type
from services.assignment.domain.layer import Layer, LayerKind
from services.assignment.domain.parameter import Parameter
from services.assignment.domain.parameter_rules import require_parameters
from services.assignment.domain.revision import Revision
from services.assignment.ports import Configuration
from shared import errors
from shared.ids import IdGenerator


@dataclass(frozen=True, slots=True)
class CreateLayer:
    """What to make. An empty unit type is that of the domain, else "user"."""

    project: str
    layer_id: str
    unit_type: str = ""
    hash_version: HashVersion = HashVersion.FLAGD_V2
    display_name: str = ""
    kind: LayerKind = LayerKind.EXPERIMENT
    domain: str = ""
    parameters: tuple[Parameter, ...] = ()


def create_layer(
    command: CreateLayer, configuration: Configuration, ids: IdGenerator, now: datetime
) -> Layer:
    """The new layer, in all units of its type or in those of a domain.

    ALREADY_EXISTS when the id is taken, NOT_FOUND when the domain is not there,
    FAILED_PRECONDITION when it or one around it was released.
    """
    require_id("layer_id", command.layer_id)
    revision = configuration.next_revision(command.project, now)
    if configuration.layers.get(command.project, command.layer_id) is not None:
        raise errors.already_exists("layer", command.layer_id)
    layer = empty_layer(command, configuration, ids, revision)
    if layer.parameters:
        require_parameters(layer, configuration.layers.all_now(command.project).values())
    configuration.layers.insert(layer)
    return layer


def empty_layer(
    command: CreateLayer, configuration: Configuration, ids: IdGenerator, at: Revision
) -> Layer:
    """A layer with nobody in it, and a salt that is independent of those of the project."""
    unit_type = require_unit_type(_unit_type(command, configuration))
    require_declared_unit_type(configuration, command.project, unit_type)
    salts = configuration.salts(command.project)
    layer = Layer(
        project=command.project,
        layer_id=command.layer_id,
        display_name=command.display_name,
        unit_type=unit_type,
        salt=fresh_salt("layer", command.hash_version, salts, ids),
        hash_version=command.hash_version,
        config_version=at.config_version,
        create_time=at.time,
        kind=command.kind,
        domain=command.domain,
        parameters=command.parameters,
    )
    require_in_reach(configuration, layer)
    return layer


def require_in_reach(configuration: Configuration, layer: Layer) -> int:
    """How many domains there are around the layer; FAILED_PRECONDITION when one was released."""

    def domain_of(domain_id: str) -> Domain:
        return find_resource(configuration.domains, "domain", Which(layer.project, domain_id))

    def layer_of(layer_id: str) -> Layer:
        return find_layer(configuration, layer.project, layer_id)

    return require_reachable(layer.layer_id, enclosing(layer, domain_of, layer_of))


def _unit_type(command: CreateLayer, configuration: Configuration) -> str:
    if not command.domain:
        return command.unit_type or "user"
    which = Which(command.project, command.domain)
    domain = find_resource(configuration.domains, "domain", which)
    if command.unit_type not in ("", domain.unit_type):
        raise errors.invalid(
            "unit_type",
            command.unit_type,
            f"{domain.unit_type!r}, the unit type of domain {domain.resource_id!r}, or none",
        )
    return domain.unit_type
