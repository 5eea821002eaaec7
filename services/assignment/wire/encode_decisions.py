"""Decisions as they are sent.

A reply holds thousands of equal decisions, and building a message for each costs more than
deciding; the same holds for payloads. Messages of one repeated field may be joined as bytes
(protobuf encoding, "last one wins" and concatenation rules), so each distinct row is encoded once
and joined from then on, and each experiment is encoded when it is compiled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.decision import Decision, Reason, Trace

from services.assignment.application.assign import Column
from services.assignment.application.assign_many import ManyColumn
from services.assignment.application.snapshots import Snapshot

_REASON = {reason: pb.DecisionReason.Value(f"DECISION_REASON_{reason.value}") for reason in Reason}


@dataclass(frozen=True, slots=True)
class Answering:
    """What every reply says besides: whose rules decided, and how old they are."""

    snapshot: Snapshot
    age_s: float


def assigned(answering: Answering, units: int, columns: Sequence[Column[Decision]]) -> bytes:
    """The reply, serialized: one row for each of the `units`, one decision a column."""
    # Equal decisions of an experiment are one object, and its identity is faster than its fields.
    keys: list[tuple[int, ...]] = [()] * units
    rows: list[tuple[Decision, ...]] = [()] * units
    if columns:
        keys = list(zip(*[map(id, column.cells) for column in columns], strict=True))
        rows = list(zip(*[column.cells for column in columns], strict=True))
    encoded = {key: _row(row) for key, row in dict(zip(keys, rows, strict=True)).items()}
    experiments = [_experiment(answering.snapshot, column) for column in columns]
    return b"".join([_head(answering), *experiments, *[encoded[key] for key in keys]])


def assigned_many(answering: Answering, columns: Sequence[ManyColumn]) -> bytes:
    """The same reply of at least one column whose decisions are codes."""
    rows = _rows(columns)
    experiments = [
        answering.snapshot.descriptions[column.compiled.experiment_id] for column in columns
    ]
    return b"".join([_head(answering), *experiments, *rows])


def explained(answering: Answering, units: int, columns: Sequence[Column[Trace]]) -> bytes:
    """The same with the explanation of every decision."""
    rows: Iterable[tuple[Trace, ...]] = [()] * units
    if columns:
        rows = zip(*(column.cells for column in columns), strict=True)
    response = pb.AssignResponse(
        units=[pb.UnitAssignment(decisions=[_explained(cell) for cell in row]) for row in rows],
    )
    experiments = [_experiment(answering.snapshot, column) for column in columns]
    return b"".join([_head(answering), *experiments, response.SerializeToString()])


def _head(answering: Answering) -> bytes:
    return pb.AssignResponse(
        config_version=answering.snapshot.config_version, config_age_s=answering.age_s
    ).SerializeToString()


def description(rule: ruleset_pb2.ExperimentRule) -> bytes:
    """The bytes of a reply that holds nothing but what it says of this experiment."""
    described = pb.AssignedExperiment(
        experiment=rule.experiment,
        config_version=rule.config_version,
        variants=[_variant(variant, rule.value_type) for variant in rule.variants],
        layer=rule.layer,
        hash_version=rule.hash_version,
        value_type=rule.value_type,
    )
    return pb.AssignResponse(experiments=[described]).SerializeToString()


def _variant(
    variant: ruleset_pb2.VariantRule, value_type: experiment_pb2.ValueType.ValueType
) -> pb.AssignedVariant:
    if value_type == experiment_pb2.VALUE_TYPE_OBJECT:
        return pb.AssignedVariant(key=variant.key, payload=variant.value.struct_value)
    return pb.AssignedVariant(
        key=variant.key,
        payload=variant.payload if variant.HasField("payload") else None,
        value=None if value_type == experiment_pb2.VALUE_TYPE_KEY else variant.value,
    )


def _rows(columns: Sequence[ManyColumn]) -> Iterable[bytes]:
    outcomes = [column.found.outcomes for column in columns]
    if len(columns) == 1:
        rows = np.array([_row((one,)) for one in outcomes[0]], dtype=object)
        found: list[bytes] = rows[columns[0].found.codes].tolist()
        return found
    codes: list[list[int]] = [column.found.codes.tolist() for column in columns]
    keys = list(zip(*codes, strict=True))
    encoded = {
        key: _row(tuple(of[code] for of, code in zip(outcomes, key, strict=True)))
        for key in set(keys)
    }
    return map(encoded.__getitem__, keys)


def _row(row: tuple[Decision, ...]) -> bytes:
    """The bytes of a reply that holds nothing but this row."""
    decisions = [_decision(decision) for decision in row]
    return pb.AssignResponse(units=[pb.UnitAssignment(decisions=decisions)]).SerializeToString()


def _decision(decision: Decision) -> pb.Decision:
    return pb.Decision(
        variant=decision.variant or "",
        reason=_REASON[decision.reason],
        propensity=decision.propensity,
        because_of=decision.because_of,
        tainted=decision.tainted,
    )


def _explained(trace: Trace) -> pb.Decision:
    sent = _decision(trace.decision)
    sent.explanation.CopyFrom(
        pb.Explanation(
            slot=trace.slot,
            split_bucket=trace.split_bucket,
            unit_id=trace.unit,
            detail=trace.detail,
        )
    )
    return sent


def _experiment(snapshot: Snapshot, column: Column[Decision] | Column[Trace]) -> bytes:
    if column.compiled is not None:
        return snapshot.descriptions[column.experiment_id]
    unknown = pb.AssignedExperiment(experiment=column.experiment_id)
    return pb.AssignResponse(experiments=[unknown]).SerializeToString()
