"""Between the messages of ErasureService and the ledger."""

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.events.v1 import erasure_service_pb2 as pb

from services.events.application.erase_units import COLLECTION
from services.events.domain.erasure import Erasing, Step
from services.events.domain.limits import MICROSECONDS
from shared.resource_names import resource_name
from shared.security.erasure_ledger import ErasureRecord


def encode_erasure(record: ErasureRecord) -> pb.Erasure:
    """The record of an erasure."""
    proved = record.proof is not None
    return pb.Erasure(
        name=resource_name(record.project, COLLECTION, record.erasure_id),
        state=pb.ERASURE_STATE_PROVED if proved else pb.ERASURE_STATE_RUNNING,
        unit_digest=record.unit_digest,
        reason=record.reason,
        erase_time=_time(record.moment_us),
        prove_time=_time(record.prove_time_us) if proved else None,
        proof=_proof(record) if proved else None,
    )


def encode_progress(project: str, erasure_id: str, erasing: Erasing) -> pb.ErasureProgress:
    """How far an erasure is."""
    tables = {
        name: [count.rows, count.version_before, count.version_after]
        for target in erasing.targets
        for name, count in target.tables.items()
    }
    waiting = erasing.step is Step.WAITING_FOR_READERS
    return pb.ErasureProgress(
        erasure=resource_name(project, COLLECTION, erasure_id),
        step=pb.ErasureStep.ValueType(erasing.step.value),
        resume_time=_time(erasing.resume_us) if waiting else None,
        done=pb.ErasureProof(
            tables=[_table(name, *counts) for name, counts in sorted(tables.items())],
            rejected_events=sum(target.rejected_events for target in erasing.targets),
            files_removed=sum(target.files_removed for target in erasing.targets),
        ),
    )


def _proof(record: ErasureRecord) -> pb.ErasureProof:
    proof = record.proof or {}
    tables = proof["tables"]
    return pb.ErasureProof(
        tables=[
            _table(name, *(count[k] for k in ("rows", "version_before", "version_after")))
            for name, count in sorted(tables.items())
        ],
        rejected_events=proof["rejected_events"],
        files_removed=proof["files_removed"],
        files_searched=proof["files_searched"],
        rows_found=proof["rows_found"],
        bytes_found=proof["bytes_found"],
        chain_hash=record.chain_hash,
        mac_key_id=record.mac_key_id,
    )


def _table(name: str, rows: int, before: int, after: int) -> pb.TableErasure:
    return pb.TableErasure(table=name, rows=rows, version_before=before, version_after=after)


def _time(microseconds: int) -> Timestamp:
    return Timestamp(seconds=microseconds // MICROSECONDS, nanos=microseconds % MICROSECONDS * 1000)
