"""What goes over the wire: bytes as the contract has them, TLS, and what a server answers."""

from __future__ import annotations

import datetime as dt
import re
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc
from touchstone_events import (
    About,
    Conversion,
    EventSender,
    Exposure,
    Identify,
    Service,
    Settings,
    Tls,
    Touchpoint,
    Unit,
)
from touchstone_events.contract import LOG_EVENTS, contract
from touchstone_events.events import NOTHING_MORE, Stamp, encode
from touchstone_events.system import Machine, new_id
from touchstone_events.transport import GrpcTransport, Outcome

from shared import errors
from shared.ids import RandomIds
from shared.server.status import to_status
from tests.client.rig import Clock, eventually
from tests.unit.kit.certificates import DAY, Authority

STAMP = Stamp("id", 1_790_000_000_123_456_789, "shop")
UNIT = Unit("user", "mary")
TEXT = st.text(max_size=300).filter(lambda text: text.isprintable())


def decoded(*items):
    request = events_service_pb2.LogEventsRequest.FromString(b"".join(items))
    return list(request.events)


@given(
    ids=st.lists(TEXT, min_size=1, max_size=5),
    value=st.none() | st.floats(allow_nan=False),
    size=st.sampled_from([0, 1, 60, 127, 128, 300, 16_383, 16_384, 20_000]),
)
def test_items_put_together_are_a_request_of_the_contract(ids, value, size):
    about = About(properties={"text": "x" * size, "number": 1.5, "list": [True, None]})
    items = [
        encode(contract(), Unit("user", each), Conversion("buy", value, "EUR"), about, STAMP)
        for each in ids
    ]
    events = decoded(*items)
    assert [event.unit.id for event in events] == ids
    assert events[0].properties["text"] == "x" * size
    assert events[0].conversion.HasField("value") == (value is not None)
    assert (events[0].event_time.seconds, events[0].event_time.nanos) == (
        1_790_000_000,
        123_456_789,
    )
    assert (events[0].event_id, events[0].source) == ("id", "shop")


@pytest.mark.parametrize(
    ("payload", "kind", "wanted"),
    [
        (
            Exposure("e", "v", 7, "SPLIT", "flagd/1"),
            "exposure",
            event_pb2.Exposure(
                experiment="e", variant="v", config_version=7, reason="SPLIT", evaluator="flagd/1"
            ),
        ),
        (Conversion("buy"), "conversion", event_pb2.Conversion(event_name="buy")),
        (
            Conversion("buy", 0.0, "EUR"),
            "conversion",
            event_pb2.Conversion(event_name="buy", value=0.0, currency="EUR"),
        ),
        (
            Touchpoint("email", "s", "m", "c", "x", "t", "click", 0.0, "EUR"),
            "touchpoint",
            event_pb2.Touchpoint(
                channel="email", campaign_source="s", medium="m", campaign="c", content="x",
                term="t", interaction="click", cost=0.0, currency="EUR",
            ),
        ),
        (
            Identify(Unit("device", "d")),
            "identify",
            event_pb2.Identify(other_unit=UnitId(type="device", id="d")),
        ),
        (
            Identify(Unit("device", "d"), unlink=True),
            "identify",
            event_pb2.Identify(
                other_unit=UnitId(type="device", id="d"), action=event_pb2.IDENTIFY_ACTION_UNLINK
            ),
        ),
    ],
)  # fmt: skip
def test_every_payload_is_that_of_the_contract(payload, kind, wanted):
    (event,) = decoded(encode(contract(), UNIT, payload, NOTHING_MORE, STAMP))
    assert event.WhichOneof("payload") == kind
    assert getattr(event, kind) == wanted


def test_every_field_of_a_payload_has_a_place_in_the_client():
    ours: dict[str, Any] = {
        "exposure": Exposure,
        "conversion": Conversion,
        "touchpoint": Touchpoint,
    }
    for kind, payload in ours.items():
        message: Any = event_pb2.Event.DESCRIPTOR.fields_by_name[kind].message_type
        assert set(payload._fields) == {field.name for field in message.fields}


def test_the_time_may_be_given_with_any_offset_and_before_1970():
    zone = dt.timezone(dt.timedelta(hours=-7))
    for time in (
        dt.datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=zone),
        dt.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=dt.UTC),
    ):
        item = encode(contract(), UNIT, Conversion("buy"), About(time=time), STAMP)
        (event,) = decoded(item)
        found = event.event_time.ToDatetime(dt.UTC)
        assert found == time
    naive = About(time=dt.datetime(2026, 3, 1))  # noqa: DTZ001  that is what is refused
    with pytest.raises(ValueError, match="no time zone"):
        encode(contract(), UNIT, Conversion("buy"), naive, STAMP)


def test_ids_are_version_7_sort_by_time_and_do_not_repeat():
    machine, clock = Machine(), Clock()
    made = [new_id(machine, 1_790_000_000 * 10**9 + n * 1000) for n in range(2000)]
    form = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(form.fullmatch(each) for each in made)
    assert made == sorted(made)
    same_moment = {new_id(machine, clock.time_ns()) for _ in range(2000)}
    assert len(same_moment) == 2000
    assert int(made[0].replace("-", "")[:12], 16) == 1_790_000_000_000


def test_the_method_is_that_of_the_contract():
    seen = []

    class Channel:
        def unary_unary(self, method, **_):
            seen.append(method)

    channel: Any = Channel()
    events_service_pb2_grpc.EventsServiceStub(channel)
    assert LOG_EVENTS in seen


@contextmanager
def serving(answer, credentials=None):
    """A server that answers LogEvents with a function; its address."""
    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    service, _, method = LOG_EVENTS.strip("/").partition("/")
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def accept(request, context):
    del context
    count = len(events_service_pb2.LogEventsRequest.FromString(request).events)
    return events_service_pb2.LogEventsResponse(accepted=count).SerializeToString()


def outcome_of(address, **more) -> Outcome:
    transport = GrpcTransport(Service(address, "secret", **more))
    try:
        body = encode(contract(), UNIT, Conversion("buy"), NOTHING_MORE, STAMP)
        call = transport.start(body, 5.0, lambda: None)
        found: Outcome = eventually(call.outcome, 10)
        return found
    finally:
        transport.close()


def test_the_key_is_sent_as_a_bearer():
    seen = []

    def answer(request, context):
        seen.append(dict(context.invocation_metadata())["authorization"])
        return accept(request, context)

    with serving(answer) as address:
        assert outcome_of(address) == Outcome("OK", accepted=1)
    assert seen == ["Bearer secret"]


def test_the_delay_that_a_service_asks_for_is_read_from_its_errors():
    """The error is made by the services' own code."""
    error = errors.overloaded("the disk is behind", 2.5)

    def answer(request, context):
        context.abort_with_status(to_status(error, RandomIds().new()))

    with serving(answer) as address:
        found = outcome_of(address)
    assert (found.code, found.retry_after_s) == ("RESOURCE_EXHAUSTED", 2.5)
    assert found.message == "the disk is behind"


@pytest.mark.parametrize(
    "details", [b"\xff\xff\xff", status_pb2.Status().SerializeToString()], ids=["garbage", "none"]
)
def test_an_error_without_a_delay_is_an_error_all_the_same(details):
    def answer(request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    with serving(answer) as address:
        assert outcome_of(address) == Outcome("UNAVAILABLE", "away")


def test_a_negative_delay_is_none():
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = -5
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="away")
    status.details.add().Pack(retry)

    def answer(request, context):
        context.abort_with_status(rpc_status.to_status(status))

    with serving(answer) as address:
        assert outcome_of(address).retry_after_s == 0.0


def test_a_reason_that_is_newer_than_the_client_is_reported_by_its_number():
    def answer(request, context):
        reply = events_service_pb2.LogEventsResponse()
        reply.rejected.add(item=0, event_id="id", reason=99, message="new")
        return reply.SerializeToString()

    with serving(answer) as address:
        (rejection,) = outcome_of(address).rejected
    assert (rejection.event_id, rejection.reason) == ("id", "99")


def test_an_answer_that_is_none_is_sent_for_again():
    """The batch may have been stored: it is repeated with its ids, not given up."""
    with serving(lambda *_: b"\xff\xff") as address:
        assert outcome_of(address).code == "CANCELLED"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


def credentials_of(authority, clients=None):
    server = authority.issue("server")
    pair = (server.key.read_bytes(), server.certificate.read_bytes())
    return grpc.ssl_server_credentials(
        [pair], clients.root.read_bytes() if clients else None, clients is not None
    )


def test_tls_trusts_its_own_authority_only(authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    with serving(accept, credentials_of(authority)) as address:
        assert outcome_of(address, tls=Tls(authority.root)).code == "OK"
        assert outcome_of(address, tls=Tls(stranger.root)).code == "UNAVAILABLE"
        assert outcome_of(address).code == "UNAVAILABLE"


def test_mutual_tls_presents_a_certificate(authority, tmp_path):
    clients = Authority(tmp_path, "clients")
    shop, old = clients.issue("shop"), clients.issue("old", start=-3 * DAY, end=-DAY)
    with serving(accept, credentials_of(authority, clients)) as address:
        good = Tls(authority.root, shop.certificate, shop.key)
        assert outcome_of(address, tls=good).code == "OK"
        assert outcome_of(address, tls=Tls(authority.root)).code == "UNAVAILABLE"
        expired = Tls(authority.root, old.certificate, old.key)
        assert outcome_of(address, tls=expired).code == "UNAVAILABLE"


def test_a_certificate_that_comes_later_is_waited_for(authority, tmp_path):
    root = tmp_path / "later.pem"
    with serving(accept, credentials_of(authority)) as address:
        settings = Settings(first_retry_s=0.02, longest_retry_s=0.1, batch_age_s=0.01)
        with EventSender(Service(address, "key", Tls(root)), settings) as sender:
            sender.conversion(UNIT, "buy")
            eventually(lambda: sender.stats().failures > 1)
            root.write_bytes(authority.root.read_bytes())
            assert sender.flush(20)
            assert sender.stats().sent == 1


@pytest.mark.parametrize("address", ["events.bank:7702", "10.0.0.1:7702", "[2001:db8::1]:7702"])
def test_plaintext_leaves_the_machine_only_when_that_was_said(address):
    with pytest.raises(ValueError, match="without tls; allowed: a loopback address"):
        Service(address, "key")
    assert Service(address, "key", allow_plaintext=True).address == address
    assert Service(address, "key", Tls(Path("ca.pem"))).address == address


@pytest.mark.parametrize("address", ["127.0.0.1:7702", "localhost:7702", "[::1]:7702"])
def test_plaintext_is_for_loopback(address):
    assert Service(address, "key").address == address


def test_a_key_is_in_no_text():
    assert "very-secret" not in repr(Service("127.0.0.1:1", "very-secret"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_events": 0}, "batch_events is 0; allowed: more than 0"),
        ({"batch_events": 5001}, "batch_events is 5001; allowed: 1 to 5000"),
        ({"queue_bytes": -1}, "queue_bytes is -1"),
        ({"deadline_s": float("inf")}, "deadline_s is inf"),
        ({"batch_age_s": float("nan")}, "batch_age_s is nan"),
        ({"spool_bytes": 1000}, "spool_bytes is 1000; allowed: at least segment_bytes"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**wrong)


def test_an_address_without_a_port_and_half_a_certificate_are_refused():
    with pytest.raises(ValueError, match="allowed: host:port"):
        Service("localhost", "key")
    with pytest.raises(ValueError, match="give both or none"):
        Tls(Path("ca.pem"), key=Path("key.pem"))
