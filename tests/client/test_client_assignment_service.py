"""Deciding inside a product and asking the real service give one answer."""

from __future__ import annotations

from collections import Counter

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.assignment.v1 import (
    audience_pb2,
    audience_service_pb2,
    audience_service_pb2_grpc,
)
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone_assignment.decision import Reason
from touchstone_assignment.local import Unanswered
from touchstone_assignment.local.provider import TouchstoneProvider

from tests.client.assignment_rig import PARENT, AssignmentProcess, furnish
from tests.client.rig import eventually

UNITS = 20_000
A_CALL = 2_000
HERE = ("one", "two", "three", "aimed", "behind", "paused", "killed", "no-such")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A service with a furnished project, that runs."""
    process = AssignmentProcess(tmp_path_factory.mktemp("assignment") / "service")
    process.start()
    furnish(process)
    yield process
    process.kill()


@pytest.fixture
def own(tmp_path):
    """A service for one test, that runs with one experiment."""
    process = AssignmentProcess(tmp_path / "service")
    process.start()
    process.run("green")
    yield process
    process.kill()


def attributes(n):
    return {"country": ("SE", "DE", "NO")[n % 3]} if n % 7 else {}


def contexts(first):
    for n in range(first, first + A_CALL):
        unit = pb.UnitContext(ids=[UnitId(type="user", id=f"u{n}")])
        unit.attributes.update(attributes(n))
        yield unit


def test_twenty_thousand_units_get_the_same_of_both(served):
    seen: Counter[str] = Counter()
    with served.local() as local:
        assert local.wait_ready(30)
        for first in range(0, UNITS, A_CALL):
            request = pb.AssignRequest(units=contexts(first), experiments=HERE)
            reply = served.assign("Assign", request)
            assert reply.config_version == local.status().config_version
            for n, unit in enumerate(reply.units, first):
                for name, there in zip(HERE, unit.decisions, strict=True):
                    here = local.decide(name, {"user": f"u{n}"}, attributes(n))
                    reason = pb.DecisionReason.Name(there.reason)
                    assert (here.variant or "", f"DECISION_REASON_{here.reason}") == (
                        there.variant,
                        reason,
                    ), (name, n)
                    assert here.because_of == there.because_of
                    seen[here.reason] += 1
    assert seen.keys() >= {
        Reason.SPLIT, Reason.NOT_IN_SLOTS, Reason.NOT_TARGETED, Reason.PREREQUISITE,
        Reason.HOLDOUT, Reason.FORCED, Reason.NOT_RUNNING, Reason.KILLED,
        Reason.UNKNOWN_EXPERIMENT,
    }  # fmt: skip


def test_parameters_and_holdouts_are_the_same_of_both(served):
    seen: Counter[str] = Counter()
    with served.local() as local:
        assert local.wait_ready(30)
        for first in range(0, UNITS, A_CALL):
            units = list(contexts(first))
            set_there = served.assign("GetParameters", pb.GetParametersRequest(units=units))
            held_there = served.assign("CheckHoldouts", pb.CheckHoldoutsRequest(units=units))
            for n, (there, held) in enumerate(
                zip(set_there.units, held_there.units, strict=True), first
            ):
                ids = {"user": f"u{n}"}
                here = local.parameters(ids, {"colour": "none", "no_such": 5}, attributes(n))
                colour = there.values["colour"]
                assert (here["colour"].value, here["colour"].experiment) == (
                    colour.value.string_value,
                    colour.experiment,
                )
                assert here["no_such"].value == 5
                assert local.held_out(ids, attributes(n)) == tuple(held.holdouts)
                seen[f"{here['colour'].value} {bool(held.holdouts)}"] += 1
    assert len(seen) == 4, seen


def test_flags_in_process_are_those_that_other_clients_of_openfeature_get(served):
    """Value, variant, reason, metadata and error, of every flag, for OFREP and for the provider."""
    keys = ("one", "two", "three", "aimed", "behind", "paused", "killed", "no-such",
            "param.colour", "param.no_such")  # fmt: skip
    api.set_provider_and_wait(TouchstoneProvider(served.local(), wait_s=30), "same")
    client = api.get_client("same")
    seen: Counter[str] = Counter()
    try:
        for n in range(60):
            key = "" if n % 20 == 13 else f"u{n}"
            context = EvaluationContext(key or None, attributes(n))
            for flag in keys:
                there = served.flag(flag, attributes(n) | ({"targetingKey": key} if key else {}))
                here = client.get_string_details(flag, "none", context)
                error = here.error_code.value if here.error_code else None
                assert error == there.get("errorCode"), (flag, n, there)
                seen[error or str(here.reason)] += 1
                if error is None:
                    assert (here.value, here.variant, here.reason, dict(here.flag_metadata)) == (
                        there["value"],
                        there["variant"],
                        there["reason"],
                        there["metadata"],
                    ), (flag, n)
    finally:
        api.shutdown()
    assert seen.keys() >= {
        "SPLIT", "DEFAULT", "DISABLED", "TARGETING_MATCH", "FLAG_NOT_FOUND",
        "TARGETING_KEY_MISSING",
    }  # fmt: skip


def test_a_sticky_experiment_is_asked_of_the_service(served):
    with served.local() as local:
        assert local.wait_ready(30)
        assert local.decide("kept", {"user": "u1"}).reason is Unanswered.SERVER_ONLY
    with served.local(ask_server=True, ask_deadline_s=10) as local:
        assert local.wait_ready(30)
        first = local.decide("kept", {"user": "u1"}, default="none")
        again = local.decide("kept", {"user": "u1"}, default="none")
        assert (first.from_server, first.variant) == (True, again.variant)
        assert again.reason is Reason.STICKY


def test_an_uploaded_list_arrives_in_the_product(served, tmp_path):
    audiences = audience_service_pb2_grpc.AudienceServiceStub
    name = f"{PARENT}/audiences/testers"
    audience = audience_pb2.Audience(id_list=audience_pb2.IdList(unit_type="user"))
    for method, request in (
        (
            "CreateAudience",
            audience_service_pb2.CreateAudienceRequest(
                parent=PARENT, audience_id="testers", audience=audience
            ),
        ),
        (
            "UploadAudienceIds",
            audience_service_pb2.UploadAudienceIdsRequest(
                name=name, upload_id="first", ids=[f"u{n}" for n in range(0, 1000, 2)]
            ),
        ),
        (
            "CommitAudienceIds",
            audience_service_pb2.CommitAudienceIdsRequest(name=name, upload_id="first", parts=1),
        ),
    ):
        served.call(audiences, method, request)
    with served.local(id_lists=True, folder=tmp_path) as local:
        eventually(lambda: local.member("testers", {"user": "u0"}) is True)
        found = [local.member("testers", {"user": f"u{n}"}) for n in range(1000)]
    assert found == [n % 2 == 0 for n in range(1000)]


def test_the_service_killed_it_goes_on_and_restarted_it_takes_the_change(own, tmp_path):
    with own.local(folder=tmp_path, stale_after_s=0.5) as local:
        assert local.wait_ready(30)
        before = [local.decide("green", {"user": f"u{n}"}) for n in range(500)]
        own.kill()
        eventually(lambda: local.status().stale and not local.status().connected)
        assert [local.decide("green", {"user": f"u{n}"}) for n in range(500)] == before
        own.start()
        own.experiments("PauseExperiment", name=f"{PARENT}/experiments/green")
        eventually(lambda: local.decide("green", {"user": "u1"}).reason is Reason.NOT_RUNNING)
        assert local.status().connected
    own.kill()
    with own.local(folder=tmp_path) as local:
        assert local.decide("green", {"user": "u1"}).reason is Reason.NOT_RUNNING
        assert local.status().from_disk
