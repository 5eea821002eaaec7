"""Domains: made from slots of a layer, grown, renamed and released."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.assignment.application.create_layer import require_in_reach
from services.assignment.application.find import find_layer
from services.assignment.application.find_resource import (
    Change,
    Which,
    change_resource,
    find_resource,
    require_free,
)
from services.assignment.domain.domain import Domain
from services.assignment.domain.domain_rules import layers_within, require_depth
from services.assignment.domain.experiment import State, require_id
from services.assignment.domain.layer import Holder
from services.assignment.domain.revision import Revision
from services.assignment.ports import Configuration
from shared import errors


@dataclass(frozen=True, slots=True)
class CreateDomain:
    """What to make: a domain that holds so many slots of the layer."""

    project: str
    domain_id: str
    layer: str
    traffic_slots: int
    display_name: str = ""


def create_domain(command: CreateDomain, configuration: Configuration, now: datetime) -> Domain:
    """The new domain, which has its slots at once.

    ALREADY_EXISTS when the id is or was taken, NOT_FOUND when the layer is not there,
    FAILED_PRECONDITION when the layer is full or no unit reaches it, RESOURCE_EXHAUSTED when
    domains would stand too deep in one another.
    """
    require_id("domain_id", command.domain_id)
    revision = configuration.next_revision(command.project, now)
    require_free(configuration.domains, "domain", command.project, command.domain_id)
    layer = find_layer(configuration, command.project, command.layer)
    require_depth(require_in_reach(configuration, layer) + 1)
    domain = Domain(
        project=command.project,
        resource_id=command.domain_id,
        config_version=revision.config_version,
        create_time=now,
        layer=command.layer,
        traffic_slots=command.traffic_slots,
        unit_type=layer.unit_type,
        display_name=command.display_name,
    )
    _give_slots(domain, configuration, revision)
    configuration.domains.insert(domain)
    return domain


def update_domain(command: Change, configuration: Configuration, now: datetime) -> Domain:
    """The changed domain; more slots are taken at once.

    FAILED_PRECONDITION for fewer slots, for a domain that was released, and when the layer is full.
    """
    revision = configuration.next_revision(command.which.project, now)
    old = find_resource(configuration.domains, "domain", command.which)
    if old.released:
        raise errors.wrong_state(
            f"domain {old.resource_id}", "released", "a change", "a domain that holds slots"
        )
    new = change_resource(configuration.domains, old, command, revision)
    if new.traffic_slots < old.traffic_slots:
        raise errors.wrong_state(
            f"domain {old.resource_id}",
            "in use",
            f"lowering traffic_slots from {old.traffic_slots} to {new.traffic_slots}",
            "a new domain, because units of its layers would lose their variants",
        )
    if new.traffic_slots > old.traffic_slots:
        require_in_reach(configuration, find_layer(configuration, new.project, new.layer))
        _give_slots(new, configuration, revision)
    return new


def release_domain(
    command: Which, configuration: Configuration, cool_down: timedelta, now: datetime
) -> Domain:
    """The domain without its slots, which rest for the cool-down; nobody reaches its layers.

    FAILED_PRECONDITION while an experiment in a layer within it runs or is paused.
    """
    revision = configuration.next_revision(command.project, now)
    old = find_resource(configuration.domains, "domain", command)
    if old.released:
        raise errors.wrong_state(
            f"domain {old.resource_id}", "released", "release", "a domain that holds slots"
        )
    _require_idle(old, configuration)
    layer = find_layer(configuration, old.project, old.layer)
    holder = Holder(domain_id=old.resource_id)
    configuration.layers.replace(layer, layer.take_back(holder, cool_down, revision))
    change = Change(command, {"released": True})
    return change_resource(configuration.domains, old, change, revision)


def _give_slots(domain: Domain, configuration: Configuration, at: Revision) -> None:
    layer = find_layer(configuration, domain.project, domain.layer)
    holder = Holder(domain_id=domain.resource_id)
    configuration.layers.replace(layer, layer.give(holder, domain.traffic_slots, at))


def _require_idle(domain: Domain, configuration: Configuration) -> None:
    layers = configuration.layers.all_now(domain.project)
    domains = configuration.domains.all_now(domain.project)
    within = {layer.layer_id for layer in layers_within(domain.resource_id, layers, domains)}
    users = [
        f"experiment {found.experiment_id} ({found.state.lower()})"
        for found in configuration.experiments.all_now(domain.project).values()
        if found.design.layer in within and found.state in (State.RUNNING, State.PAUSED)
    ]
    if users:
        raise errors.in_use(f"domain {domain.resource_id}", users)
