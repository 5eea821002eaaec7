"""An experiment as a JSON document, as it is stored now and in every version it ever had.

What an experiment does not use is left out. Format 2 holds what a program that knows only format 1
must not decide without; an experiment that uses none of it is still written in format 1, so that
such a program goes on with all others while it is being replaced.
"""

import json
from datetime import datetime
from typing import Any

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.design_rules import require_sound
from services.assignment.domain.experiment import (
    Allocation,
    AssignmentSource,
    Design,
    Experiment,
    Prerequisite,
    RampStage,
    Schedule,
    State,
    Switchback,
    ValueType,
    Variant,
)
from services.assignment.domain.salt_checks import Salt
from shared.errors import failed_precondition

FORMAT = 2


def to_document(experiment: Experiment) -> str:
    """The experiment as canonical JSON."""
    design = experiment.design
    life = _life_since_2(experiment)
    newer = _design_since_2(design)
    variants = [_variant_document(variant) for variant in design.variants]
    needs_2 = life or newer or any("value" in v or "dropped" in v for v in variants)
    return json.dumps(
        {
            "format": 2 if needs_2 else 1,
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
                "variants": variants,
                **newer,
            },
            **life,
        },
        sort_keys=True,
        separators=(",", ":"),
    )


def _life_since_2(experiment: Experiment) -> dict[str, Any]:
    if not experiment.killed:
        return {}
    return {"killed": True, "kill_reason": experiment.kill_reason}


def _variant_document(variant: Variant) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": variant.key,
        "weight": variant.weight,
        "display_name": variant.display_name,
        "payload": variant.payload,
    }
    if variant.value is not None:
        found["value"] = variant.value
    if variant.dropped:
        found["dropped"] = True
    return found


def _design_since_2(design: Design) -> dict[str, Any]:
    switchback = design.switchback
    found = {
        "value_type": "" if design.value_type is ValueType.KEY else design.value_type.value,
        "targeting": design.targeting,
        "prerequisites": [
            {"experiment": needed.experiment_id, "variants": list(needed.variants)}
            for needed in design.prerequisites
        ],
        "sticky": design.sticky,
        "anonymous_unit_type": design.anonymous_unit_type,
        "schedule": _schedule_document(design.schedule),
        "switchback": switchback
        and {
            "window_s": switchback.window_s,
            "washout_s": switchback.washout_s,
            "region_attribute": switchback.region_attribute,
        },
        "allocation": "" if design.allocation is Allocation.FIXED else design.allocation.value,
        "observed_unit_type": design.observed_unit_type,
    }
    return {field: value for field, value in found.items() if value}


def _schedule_document(schedule: Schedule) -> dict[str, Any]:
    found = {
        "start_time": _text(schedule.start_time),
        "stop_time": _text(schedule.stop_time),
        "ramp": [
            {"time": stage.time.isoformat(), "traffic_slots": stage.traffic_slots}
            for stage in schedule.ramp
        ],
    }
    return {field: value for field, value in found.items() if value}


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
        killed=found.get("killed", False),
        kill_reason=found.get("kill_reason", ""),
    )


def salt_of(text: str) -> Salt:
    """The salt of the split, whichever program wrote the document."""
    design = json.loads(text)["design"]
    return Salt(design["salt"], HashVersion(design["hash_version"]))


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
        value_type=ValueType(found.get("value_type", ValueType.KEY)),
        targeting=found.get("targeting"),
        prerequisites=tuple(
            Prerequisite(needed["experiment"], tuple(needed["variants"]))
            for needed in found.get("prerequisites", ())
        ),
        sticky=found.get("sticky", False),
        anonymous_unit_type=found.get("anonymous_unit_type", ""),
        schedule=_schedule(found.get("schedule", {})),
        switchback=Switchback(**found["switchback"]) if "switchback" in found else None,
        allocation=Allocation(found.get("allocation", Allocation.FIXED)),
        observed_unit_type=found.get("observed_unit_type", ""),
    )


def _schedule(found: dict[str, Any]) -> Schedule:
    return Schedule(
        start_time=_time(found.get("start_time")),
        stop_time=_time(found.get("stop_time")),
        ramp=tuple(
            RampStage(datetime.fromisoformat(stage["time"]), stage["traffic_slots"])
            for stage in found.get("ramp", ())
        ),
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
