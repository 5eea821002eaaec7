"""An analysis plan as the JSON document that is kept of it."""

import datetime as dt
import json
from dataclasses import asdict
from typing import Any

from touchstone_statistics.bayes import LiftPrior

from services.results.domain.analysis_plan import (
    AlphaSpending,
    AnalysisMethod,
    AnalysisPlan,
    Correction,
    MetricPlan,
)
from services.results.domain.clustering import Switchback
from services.results.domain.metric import MetricRole
from services.results.domain.observation import MultipleExposures

_ENUMS = {
    "method": AnalysisMethod,
    "spending": AlphaSpending,
    "primary_correction": Correction,
    "secondary_correction": Correction,
    "multiple_exposures": MultipleExposures,
}


def text_of(plan: AnalysisPlan) -> str:
    """The document: enumerations by value, times in ISO 8601."""
    return json.dumps(asdict(plan), default=_plain, sort_keys=True, ensure_ascii=False)


def plan_of(text: str) -> AnalysisPlan:
    """The plan of a document. What an older document lacks has its default."""
    fields: dict[str, Any] = json.loads(text)
    for name, kind in _ENUMS.items():
        if fields.get(name) is not None:
            fields[name] = kind(fields[name])
    if fields.get("planned_end") is not None:
        fields["planned_end"] = dt.datetime.fromisoformat(fields["planned_end"])
    if fields.get("prior") is not None:
        fields["prior"] = LiftPrior(fields["prior"]["mean"], fields["prior"]["std_dev"])
    if fields.get("switchback") is not None:
        seconds = (dt.timedelta(seconds=fields["switchback"][n]) for n in ("period", "burn_in"))
        fields["switchback"] = Switchback(*seconds)
    fields["dimensions"] = tuple(fields.get("dimensions", ()))
    fields["metrics"] = tuple(_metric_plan(one) for one in fields.get("metrics", ()))
    return AnalysisPlan(**fields)


def _metric_plan(fields: dict[str, Any]) -> MetricPlan:
    role = None if fields["role"] is None else MetricRole(fields["role"])
    return MetricPlan(fields["metric_id"], role, fields["margin"])


def _plain(value: object) -> str | float:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value.value)  # type: ignore[attr-defined]  # only enumerations are left
