"""The reply to a batch."""

from touchstone.events.v1 import events_service_pb2

from services.events.application.log_events import Logged


def encode_logged(logged: Logged, token: str) -> events_service_pb2.LogEventsResponse:
    """The reply to a batch."""
    return events_service_pb2.LogEventsResponse(
        accepted=logged.accepted,
        duplicates=len(logged.duplicates),
        duplicate_items=logged.duplicates,
        rejected=[
            events_service_pb2.RejectedItem(
                item=place,
                event_id=why.event_id,
                reason=events_service_pb2.RejectionReason.Value(
                    f"REJECTION_REASON_{why.reason.value}"
                ),
                field=why.field,
                message=why.message,
            )
            for place, why in logged.rejected
        ],
        consistency_token=token,
    )
