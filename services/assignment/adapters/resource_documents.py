"""How unit types, attributes, domains, holdouts and forced variants are stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from touchstone_assignment.bucketing import HashVersion

from services.assignment.adapters.sql_resources import Codec
from services.assignment.domain.attribute import Attribute, AttributeType
from services.assignment.domain.audience import Audience, ListedIds
from services.assignment.domain.domain import Domain
from services.assignment.domain.forced import ForcedVariant
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.unit_type import UnitType

Fields = Mapping[str, Any]


def _write_unit_type(found: UnitType) -> Fields:
    return {"display_name": found.display_name, "description": found.description}


def _read_unit_type(fields: Fields) -> Fields:
    return {"display_name": fields["display_name"], "description": fields["description"]}


def _write_attribute(found: Attribute) -> Fields:
    return {"type": found.type.value, "display_name": found.display_name}


def _read_attribute(fields: Fields) -> Fields:
    return {"type": AttributeType(fields["type"]), "display_name": fields["display_name"]}


def _write_domain(found: Domain) -> Fields:
    return {
        "layer": found.layer,
        "traffic_slots": found.traffic_slots,
        "unit_type": found.unit_type,
        "display_name": found.display_name,
        "released": found.released,
    }


def _read_domain(fields: Fields) -> Fields:
    return {
        "layer": fields["layer"],
        "traffic_slots": fields["traffic_slots"],
        "unit_type": fields["unit_type"],
        "display_name": fields["display_name"],
        "released": fields["released"],
    }


def _write_holdout(found: Holdout) -> Fields:
    return {
        "unit_type": found.unit_type,
        "slots": found.slots,
        "salt": found.salt,
        "hash_version": found.hash_version.value,
        "layers": list(found.layers),
        "experiments": list(found.experiments),
        "display_name": found.display_name,
        "description": found.description,
        "end_time": found.end_time.isoformat() if found.end_time else None,
    }


def _read_holdout(fields: Fields) -> Fields:
    ended = fields["end_time"]
    return {
        "unit_type": fields["unit_type"],
        "slots": fields["slots"],
        "salt": fields["salt"],
        "hash_version": HashVersion(fields["hash_version"]),
        "layers": tuple(fields["layers"]),
        "experiments": tuple(fields["experiments"]),
        "display_name": fields["display_name"],
        "description": fields["description"],
        "end_time": datetime.fromisoformat(ended) if ended else None,
    }


def _write_forced(found: ForcedVariant) -> Fields:
    return {
        "experiment": found.experiment_id,
        "unit_type": found.unit_type,
        "unit_id": found.unit_id,
        "variant": found.variant,
        "note": found.note,
    }


def _read_forced(fields: Fields) -> Fields:
    return {
        "experiment_id": fields["experiment"],
        "unit_type": fields["unit_type"],
        "unit_id": fields["unit_id"],
        "variant": fields["variant"],
        "note": fields["note"],
    }


def _write_audience(found: Audience) -> Fields:
    listed = found.id_list
    return {
        "display_name": found.display_name,
        "description": found.description,
        "update_time": found.update_time.isoformat(),
        "condition": found.condition,
        "id_list": listed
        and {"unit_type": listed.unit_type, "count": listed.count, "digest": listed.digest},
    }


def _read_audience(fields: Fields) -> Fields:
    listed = fields["id_list"]
    return {
        "display_name": fields["display_name"],
        "description": fields["description"],
        "update_time": datetime.fromisoformat(fields["update_time"]),
        "members": ListedIds(**listed) if listed else fields["condition"],
    }


UNIT_TYPES: Final = Codec("UNIT_TYPE", "unit type", _write_unit_type, _read_unit_type, UnitType)
ATTRIBUTES: Final = Codec("ATTRIBUTE", "attribute", _write_attribute, _read_attribute, Attribute)
DOMAINS: Final = Codec("DOMAIN", "domain", _write_domain, _read_domain, Domain)
HOLDOUTS: Final = Codec("HOLDOUT", "holdout", _write_holdout, _read_holdout, Holdout)
FORCED: Final = Codec("FORCED", "forced variant", _write_forced, _read_forced, ForcedVariant)
AUDIENCES: Final = Codec("AUDIENCE", "audience", _write_audience, _read_audience, Audience)
