"""Decisions as they are sent.

A reply holds thousands of equal decisions, and building a message for each costs more than
deciding; the same holds for payloads. Messages of one repeated field may be joined as bytes
(protobuf encoding, "last one wins" and concatenation rules), so each distinct row is encoded once
and joined from then on, and each experiment is encoded when it is compiled.
"""

from collections.abc import Iterable, Sequence

from touchstone.assignment.v1 import assignment_service_pb2 as pb

from services.assignment import encode
from services.assignment.application.assign import Column
from services.assignment.domain.compile import Snapshot
from services.assignment.domain.decision import Decision, Reason, Trace
from services.assignment.domain.experiment import Experiment

_REASON = {
    Reason.SPLIT: pb.DECISION_REASON_SPLIT,
    Reason.NOT_IN_SLOTS: pb.DECISION_REASON_NOT_IN_SLOTS,
    Reason.NOT_RUNNING: pb.DECISION_REASON_NOT_RUNNING,
    Reason.UNKNOWN_EXPERIMENT: pb.DECISION_REASON_UNKNOWN_EXPERIMENT,
    Reason.MISSING_UNIT: pb.DECISION_REASON_MISSING_UNIT,
    Reason.EXTERNAL: pb.DECISION_REASON_EXTERNAL,
}


def assigned(
    snapshot: Snapshot, units: int, columns: Sequence[Column[Decision]]
) -> pb.AssignResponse:
    """The reply: one row for each of the `units`, one decision a column."""
    response = pb.AssignResponse(config_version=snapshot.config_version)
    # A variant that is served differs from every reason, so one of the two names the decision.
    cells = [[cell.variant or cell.reason for cell in column.cells] for column in columns]
    rows = list(zip(*cells, strict=True)) if cells else [()] * units
    encoded = {key: _row(key) for key in set(rows)}
    experiments = [_experiment(column) for column in columns]
    response.MergeFromString(b"".join([*experiments, *(encoded[key] for key in rows)]))
    return response


def explained(
    snapshot: Snapshot, units: int, columns: Sequence[Column[Trace]]
) -> pb.AssignResponse:
    """The same with the explanation of every decision."""
    rows: Iterable[tuple[Trace, ...]] = [()] * units
    if columns:
        rows = zip(*(column.cells for column in columns), strict=True)
    response = pb.AssignResponse(
        config_version=snapshot.config_version,
        units=[pb.UnitAssignment(decisions=[_explained(cell) for cell in row]) for row in rows],
    )
    response.MergeFromString(b"".join([_experiment(column) for column in columns]))
    return response


def description(found: Experiment) -> bytes:
    """The bytes of a reply that holds nothing but what it says of this experiment."""
    assigned_ = pb.AssignedExperiment(
        experiment=found.experiment_id,
        config_version=found.config_version,
        variants=[
            pb.AssignedVariant(key=variant.key, payload=encode.payload(variant.payload))
            for variant in found.design.variants
        ],
        layer=found.design.layer,
    )
    return pb.AssignResponse(experiments=[assigned_]).SerializeToString()


def _row(key: tuple[str | Reason, ...]) -> bytes:
    """The bytes of a reply that holds nothing but this row."""
    decisions = [
        pb.Decision(reason=_REASON[cell])
        if isinstance(cell, Reason)
        else pb.Decision(variant=cell, reason=pb.DECISION_REASON_SPLIT)
        for cell in key
    ]
    return pb.AssignResponse(units=[pb.UnitAssignment(decisions=decisions)]).SerializeToString()


def _explained(trace: Trace) -> pb.Decision:
    return pb.Decision(
        variant=trace.decision.variant or "",
        reason=_REASON[trace.decision.reason],
        explanation=pb.Explanation(
            slot=trace.slot,
            split_bucket=trace.split_bucket,
            unit_id=trace.unit,
            detail=trace.detail,
        ),
    )


def _experiment(column: Column[Decision] | Column[Trace]) -> bytes:
    if column.compiled is not None:
        return column.compiled.description
    unknown = pb.AssignedExperiment(experiment=column.experiment_id)
    return pb.AssignResponse(experiments=[unknown]).SerializeToString()
