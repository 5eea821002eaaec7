"""Who uses what a project declares."""

from services.assignment.domain.experiment import Experiment, State
from services.assignment.ports import ProjectConfig
from services.assignment.wire.condition_text import attribute_names


def users_of_unit_type(config: ProjectConfig, unit_type: str) -> list[str]:
    """What is about units of the type, by kind and id: layers, experiments, holdouts, lists.

    Archived experiments and ended holdouts use nothing.
    """
    return [
        *(f"layer {key}" for key, found in config.layers.items() if found.unit_type == unit_type),
        *(
            f"experiment {found.experiment_id}"
            for found in _experiments(config)
            if unit_type
            in (
                found.design.unit_type,
                found.design.anonymous_unit_type,
                found.design.observed_unit_type,
            )
        ),
        *(
            f"holdout {key}"
            for key, found in config.holdouts.items()
            if found.unit_type == unit_type and not found.ended
        ),
        *(
            f"audience {key}"
            for key, found in config.audiences.items()
            if found.id_list is not None and found.id_list.unit_type == unit_type
        ),
    ]


def users_of_attribute(config: ProjectConfig, attribute: str) -> list[str]:
    """The experiments and audiences whose rules ask for the attribute, by kind and id."""
    return [
        *(
            f"experiment {found.experiment_id}"
            for found in _experiments(config)
            if attribute in _asked_by(found)
        ),
        *(
            f"audience {key}"
            for key, found in config.audiences.items()
            if found.condition is not None and attribute in attribute_names(found.condition)
        ),
    ]


def _experiments(config: ProjectConfig) -> list[Experiment]:
    return [found for found in config.experiments.values() if found.state is not State.ARCHIVED]


def _asked_by(experiment: Experiment) -> set[str]:
    design = experiment.design
    asked = set(attribute_names(design.targeting)) if design.targeting else set()
    if design.switchback is not None:
        asked.add(design.switchback.region_attribute)
    return asked
