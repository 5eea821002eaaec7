"""Change the title and the parameters of a layer."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.assignment.application.design_fit import KEEPING
from services.assignment.application.find import find_layer
from services.assignment.domain.experiment import Experiment, State
from services.assignment.domain.layer import Layer
from services.assignment.domain.parameter import Parameter
from services.assignment.domain.parameter_rules import (
    payload_faults,
    require_extended,
    require_parameters,
)
from services.assignment.ports import Configuration
from shared import errors

_IN_USE = (State.DRAFT, State.RUNNING, State.PAUSED)


@dataclass(frozen=True, slots=True)
class UpdateLayer:
    """The new values; None: as it is."""

    project: str
    layer_id: str
    display_name: str | None = None
    parameters: tuple[Parameter, ...] | None = None
    etag: str = ""


def update_layer(command: UpdateLayer, configuration: Configuration, now: datetime) -> Layer:
    """The changed layer: parameters may come, and defaults may change while nothing runs in it.

    NOT_FOUND, ABORTED on a stale etag, INVALID_ARGUMENT for parameters that may not be,
    FAILED_PRECONDITION while running or existing experiments stand against it. A change to what is
    there already changes nothing.
    """
    revision = configuration.next_revision(command.project, now)
    old = find_layer(configuration, command.project, command.layer_id)
    if command.etag and command.etag != old.etag:
        raise errors.stale_etag(f"layer {old.layer_id}", command.etag, old.etag)
    new = replace(
        old,
        display_name=old.display_name if command.display_name is None else command.display_name,
        parameters=old.parameters if command.parameters is None else command.parameters,
    )
    if new == old:
        return old
    if new.parameters != old.parameters:
        _require_parameters(old, new, configuration)
    new = replace(new, config_version=revision.config_version)
    configuration.layers.replace(old, new)
    return new


def _require_parameters(old: Layer, new: Layer, configuration: Configuration) -> None:
    require_parameters(new, configuration.layers.all_now(new.project).values())
    experiments = [
        found
        for found in configuration.experiments.all_now(new.project).values()
        if found.design.layer == new.layer_id and found.state in _IN_USE
    ]
    running = [found.experiment_id for found in experiments if found.state is State.RUNNING]
    require_extended(old, new, running)
    _require_payloads(new, experiments)


def _require_payloads(layer: Layer, experiments: list[Experiment]) -> None:
    """The first parameters of a layer bind the experiments that are in it already."""
    for experiment in experiments:
        keeping = next((name for name in KEEPING if getattr(experiment.design, name)), None)
        if keeping is not None and layer.parameters:
            raise errors.failed_precondition(
                "WRONG_STATE",
                f"experiment {experiment.experiment_id!r} of layer {layer.layer_id!r} has "
                f"{keeping}: its units keep what they were served, which a parameter cannot say; "
                "make another layer, or stop the experiment",
            )
        fault = next(payload_faults(layer, experiment.design.variants), None)
        if fault is not None:
            raise errors.failed_precondition(
                "WRONG_STATE",
                f"experiment {experiment.experiment_id!r} of layer {layer.layer_id!r} sets "
                f"{fault.field}, which {fault.description}; or change or stop the experiment",
            )
