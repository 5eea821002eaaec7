"""Change the fields that the caller names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.assignment.application.design_fit import require_fit
from services.assignment.application.find import find_experiment, find_layer, require_etag
from services.assignment.domain.design_rules import require_valid_change
from services.assignment.domain.experiment import AssignmentSource, Design, Experiment, State
from services.assignment.domain.lifecycle import revise
from services.assignment.domain.prerequisites import require_offered, require_prerequisites
from services.assignment.domain.schedule import require_to_come
from services.assignment.ports import Configuration


@dataclass(frozen=True, slots=True)
class UpdateExperiment:
    """The new values by the field of the design."""

    project: str
    experiment_id: str
    changes: Mapping[str, object]
    etag: str = ""


def update_experiment(
    command: UpdateExperiment, configuration: Configuration, now: datetime
) -> Experiment:
    """The changed experiment; more traffic after the start takes its slots at once.

    NOT_FOUND, ABORTED on a stale etag, FAILED_PRECONDITION where the state does not allow the
    change or the layer is full. A change to what is there already changes nothing.
    """
    revision = configuration.next_revision(command.project, now)
    old = find_experiment(configuration, command.project, command.experiment_id)
    require_etag(old, command.etag)
    design = replace(old.design, **command.changes)  # type: ignore[arg-type]  # as decoded
    if design == old.design:
        return old
    require_to_come(old.design.schedule, design.schedule, now)
    new = revise(old, require_valid_change(old.design, design), revision)
    require_fit(configuration, command.project, design, old.design)
    if design.prerequisites != old.design.prerequisites or _keys(design) != _keys(old.design):
        others = configuration.experiments.all_now(command.project)
        require_prerequisites(new, others)
        require_offered(new, others)
    configuration.experiments.replace(old, new)
    holds_slots = new.state in (State.RUNNING, State.PAUSED)
    if design.source is AssignmentSource.SLOTS and holds_slots:
        layer = find_layer(configuration, new.project, design.layer)
        grown = layer.allocate(new.experiment_id, design.traffic_slots, revision)
        if grown is not layer:
            configuration.layers.replace(layer, grown)
    return new


def _keys(design: Design) -> list[str]:
    return [variant.key for variant in design.variants]
