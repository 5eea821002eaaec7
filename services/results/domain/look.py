"""A look at a comparison: what it cost stays spent."""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LookKey:
    """What is looked at: a metric of an experiment, one treatment against the control."""

    project: str
    experiment_id: str
    metric_id: str
    variant: str


@dataclass(frozen=True, slots=True)
class Look:
    """One look, as it was taken: no field of it is ever computed anew.

    `number` counts from 1. `units` is the information, in units of the arms that count for the
    metric, `fraction` its share of the plan. `spent` and `critical` belong to the boundary (0 and
    None where the rule has none), `statistic` and `log_e` are what the data said (None where it
    said nothing). `journal_id` and `position` are the cut that was read.
    """

    key: LookKey
    number: int
    units: float
    fraction: float
    spent: float
    critical: float | None
    statistic: float | None
    log_e: float | None
    journal_id: str
    position: int
    plan_version: int
    create_time: dt.datetime
