"""An experiment as a JSON document, as it is stored now and in every version it ever had."""

import json
from datetime import datetime
from typing import Any

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.design_rules import require_sound
from services.assignment.domain.experiment import (
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from shared.errors import failed_precondition

FORMAT = 1


def to_document(experiment: Experiment) -> str:
    """The experiment as canonical JSON."""
    design = experiment.design
    return json.dumps(
        {
            "format": FORMAT,
            "project": experiment.project,
            "experiment_id": experiment.experiment_id,
            "state": experiment.state.value,
            "config_version": experiment.config_version,
            "create_time": experiment.create_time.isoformat(),
            "update_time": experiment.update_time.isoformat(),
            "start_time": _text(experiment.start_time),
            "stop_time": _text(experiment.stop_time),
            "design": {
                "display_name": design.display_name,
                "hypothesis": design.hypothesis,
                "owner": design.owner,
                "unit_type": design.unit_type,
                "layer": design.layer,
                "source": design.source.value,
                "hash_version": design.hash_version.value,
                "salt": design.salt,
                "traffic_slots": design.traffic_slots,
                "control": design.control,
                "metrics": list(design.metrics),
                "variants": [
                    {
                        "key": variant.key,
                        "weight": variant.weight,
                        "display_name": variant.display_name,
                        "payload": variant.payload,
                    }
                    for variant in design.variants
                ],
            },
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def from_document(text: str) -> Experiment:
    """The experiment; FAILED_PRECONDITION when a newer program wrote the document.

    ValueError when no decision can follow from what is stored. Limits are not applied: what was
    accepted once stays in use.
    """
    found = json.loads(text)
    if found["format"] > FORMAT:
        raise failed_precondition(
            "NEWER_VERSION",
            f"experiment {found.get('experiment_id')!r} is stored in format {found['format']}; "
            f"this program reads up to {FORMAT}; run the newer version",
        )
    return Experiment(
        project=found["project"],
        experiment_id=found["experiment_id"],
        design=require_sound(_design(found["design"])),
        state=State(found["state"]),
        config_version=found["config_version"],
        create_time=datetime.fromisoformat(found["create_time"]),
        update_time=datetime.fromisoformat(found["update_time"]),
        start_time=_time(found["start_time"]),
        stop_time=_time(found["stop_time"]),
    )


def _design(found: dict[str, Any]) -> Design:
    return Design(
        display_name=found["display_name"],
        hypothesis=found["hypothesis"],
        owner=found["owner"],
        unit_type=found["unit_type"],
        layer=found["layer"],
        source=AssignmentSource(found["source"]),
        hash_version=HashVersion(found["hash_version"]),
        salt=found["salt"],
        traffic_slots=found["traffic_slots"],
        control=found["control"],
        variants=tuple(Variant(**variant) for variant in found["variants"]),
        metrics=tuple(found.get("metrics", ())),
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
