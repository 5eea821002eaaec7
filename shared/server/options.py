"""The channel options of every server and client, set once."""

from __future__ import annotations

Options = list[tuple[str, str | int]]

# A provider may ping every 30 seconds without a call in progress. Its clock and the network's delay
# make some of them come sooner, and the third ping that comes too soon ends the connection.
_MIN_PING_INTERVAL_MS = 20_000
_KEEPALIVE_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_CONNECTION_AGE_MS = 30 * 60_000
_CONNECTION_GRACE_MS = 5 * 60_000
_MAX_METADATA_BYTES = 16 * 1024
# The defaults drop bursts of calls at random, without a line in any log.
_MAX_PENDING = 100_000
_UNREQUESTED_TIME_S = 600


def server_options(max_message_bytes: int) -> Options:
    """Options of a server that owns its port alone."""
    return [
        # Two programs on one port would each get half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
        ("grpc.max_connection_age_grace_ms", _CONNECTION_GRACE_MS),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _MAX_PENDING),
        ("grpc.server_max_unrequested_time_in_server", _UNREQUESTED_TIME_S),
    ]


# UNAVAILABLE means that the same call may be repeated as it is.
_RETRY_UNAVAILABLE = """{"methodConfig": [{"name": [{}], "retryPolicy": {
"maxAttempts": 4, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
"retryableStatusCodes": ["UNAVAILABLE"]}}]}"""


def client_options() -> Options:
    """Options of a client of the suite's services."""
    return [
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.service_config", _RETRY_UNAVAILABLE),
    ]
