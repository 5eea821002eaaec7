"""Make a draft."""

from dataclasses import dataclass
from datetime import datetime

from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.create_layer import (
    CreateLayer,
    empty_layer,
    require_in_reach,
)
from services.assignment.application.design_fit import require_fit
from services.assignment.application.find import find_layer
from services.assignment.domain.design_rules import require_valid
from services.assignment.domain.experiment import (
    MAX_TRAFFIC_SLOTS,
    NOTHING_SCHEDULED,
    Allocation,
    AssignmentSource,
    Design,
    Experiment,
    Prerequisite,
    Schedule,
    State,
    Switchback,
    ValueType,
    Variant,
    require_id,
    require_unit_type,
)
from services.assignment.domain.layer import Layer
from services.assignment.domain.prerequisites import require_prerequisites
from services.assignment.domain.revision import Revision
from services.assignment.domain.schedule import require_to_come
from services.assignment.ports import Configuration
from shared import errors
from shared.ids import IdGenerator


@dataclass(frozen=True, slots=True)
class CreateExperiment:
    """What to make. Empty texts, 0 and None stand for the defaults that the contract names."""

    project: str
    experiment_id: str
    variants: tuple[Variant, ...]
    display_name: str = ""
    hypothesis: str = ""
    owner: str = ""
    unit_type: str = ""
    layer: str = ""
    source: AssignmentSource = AssignmentSource.SLOTS
    hash_version: HashVersion | None = None
    traffic_slots: int = 0
    control: str = ""
    metrics: tuple[str, ...] = ()
    start_time: datetime | None = None
    stop_time: datetime | None = None
    value_type: ValueType = ValueType.KEY
    targeting: str | None = None
    prerequisites: tuple[Prerequisite, ...] = ()
    sticky: bool = False
    anonymous_unit_type: str = ""
    schedule: Schedule = NOTHING_SCHEDULED
    switchback: Switchback | None = None
    allocation: Allocation = Allocation.FIXED
    observed_unit_type: str = ""


def create_experiment(
    command: CreateExperiment, configuration: Configuration, ids: IdGenerator, now: datetime
) -> Experiment:
    """The draft, in the layer that it names or in a new one with its own id.

    ALREADY_EXISTS when the id is taken, NOT_FOUND when the named layer is not there.
    """
    require_id("experiment_id", command.experiment_id)
    unit_type = require_unit_type(command.unit_type or "user")
    _check_times(command)
    require_to_come(NOTHING_SCHEDULED, command.schedule, now)
    revision = configuration.next_revision(command.project, now)
    if configuration.experiments.get(command.project, command.experiment_id) is not None:
        raise errors.already_exists("experiment", command.experiment_id)
    layer: Layer | None = None
    if command.source is AssignmentSource.SLOTS and command.layer:
        layer = _named_layer(command, unit_type, configuration)
    elif command.source is AssignmentSource.SLOTS:
        layer = _own_layer(command, configuration, ids, revision)
        configuration.layers.insert(layer)
    experiment = Experiment(
        project=command.project,
        experiment_id=command.experiment_id,
        design=_design(command, unit_type, layer, f"split/{ids.new()}"),
        state=State.DRAFT,
        config_version=revision.config_version,
        create_time=now,
        update_time=now,
        start_time=command.start_time,
        stop_time=command.stop_time,
    )
    require_fit(configuration, command.project, experiment.design)
    if command.prerequisites:
        require_prerequisites(experiment, configuration.experiments.all_now(command.project))
    configuration.experiments.insert(experiment)
    return experiment


def _check_times(command: CreateExperiment) -> None:
    start, stop = command.start_time, command.stop_time
    if command.source is AssignmentSource.SLOTS:
        for field, time in (("start_time", start), ("stop_time", stop)):
            if time is not None:
                raise errors.invalid(field, time.isoformat(), "none, except for EXTERNAL ones")
    elif start and stop and stop < start:
        raise errors.invalid("stop_time", stop.isoformat(), f"from {start.isoformat()} on")


def _design(command: CreateExperiment, unit_type: str, layer: Layer | None, salt: str) -> Design:
    slots = command.source is AssignmentSource.SLOTS
    version = layer.hash_version if layer else command.hash_version
    design = Design(
        display_name=command.display_name,
        hypothesis=command.hypothesis,
        owner=command.owner,
        unit_type=unit_type,
        layer=layer.layer_id if layer else command.layer,
        source=command.source,
        hash_version=version or HashVersion.FLAGD_V2,
        salt=salt,
        traffic_slots=command.traffic_slots or (MAX_TRAFFIC_SLOTS if slots else 0),
        variants=command.variants,
        control=command.control or (command.variants[0].key if command.variants else ""),
        metrics=command.metrics,
        value_type=command.value_type,
        targeting=command.targeting,
        prerequisites=command.prerequisites,
        sticky=command.sticky,
        anonymous_unit_type=command.anonymous_unit_type,
        schedule=command.schedule,
        switchback=command.switchback,
        allocation=command.allocation,
        observed_unit_type=command.observed_unit_type,
    )
    return require_valid(design)


def _own_layer(
    command: CreateExperiment, configuration: Configuration, ids: IdGenerator, at: Revision
) -> Layer:
    wanted = CreateLayer(
        project=command.project,
        layer_id=command.experiment_id,
        unit_type=command.unit_type,
        hash_version=command.hash_version or HashVersion.FLAGD_V2,
        display_name=command.display_name,
    )
    return empty_layer(wanted, configuration, ids, at)


def _named_layer(command: CreateExperiment, unit_type: str, configuration: Configuration) -> Layer:
    layer = find_layer(configuration, command.project, command.layer)
    require_in_reach(configuration, layer)
    if layer.unit_type != unit_type:
        raise errors.invalid(
            "layer",
            layer.layer_id,
            f"a layer of units of type {unit_type!r}; this one cuts {layer.unit_type!r}",
        )
    if command.hash_version not in (None, layer.hash_version):
        raise errors.invalid(
            "hash_version",
            command.hash_version,
            f"{layer.hash_version.value!r}, the hash of layer {layer.layer_id!r}",
        )
    return layer
