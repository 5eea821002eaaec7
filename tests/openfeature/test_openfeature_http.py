"""OFREP of the service as a process: whose flags they are, and how a change gets through."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.openfeature.environments import PYTHON_RPC
from tests.openfeature.running import Running
from tests.openfeature.test_openfeature_contract import make_experiment, pause
from tests.robustness.faults import make_key

FLAGS = "/ofrep/v1/evaluate/flags"
BODY = json.dumps({"context": {"targetingKey": "user-1"}})


@contextmanager
def asked(
    running: Running, verb: str, path: str, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(running.http, timeout=60)
    given = {"x-api-key": running.key, "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(verb, path, BODY if verb == "POST" else None, given)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def answer(running: Running, path: str, **headers: str) -> tuple[int, Any, str]:
    with asked(running, "POST", path, **headers) as response:
        data = response.read()
        tag = response.getheader("etag", "")
        return response.status, json.loads(data) if data else None, tag


def event(response: http.client.HTTPResponse) -> dict[str, Any]:
    """The data of the next event."""
    while True:
        line = response.readline().decode()
        assert line, "the stream ended"
        if line.startswith("data: "):
            found: dict[str, Any] = json.loads(line.removeprefix("data: "))
            return found


def test_key_of_another_project_finds_no_flag(own: Running) -> None:
    with own.service() as service:
        make_experiment(service, "switch", PYTHON_RPC)
    rival = make_key(own.process.data, "rival")
    status, found, _ = answer(own, f"{FLAGS}/switch", x_api_key=rival)
    assert (status, found["errorCode"]) == (404, "FLAG_NOT_FOUND")
    status, found, _ = answer(own, FLAGS, x_api_key=rival)
    assert (status, found["flags"]) == (200, [])
    assert found["metadata"]["flagSetId"] == "rival"
    assert answer(own, f"{FLAGS}/switch")[0] == 200


def test_change_is_told_and_the_next_answer_is_of_that_version(own: Running) -> None:
    with own.service() as service:
        make_experiment(service, "switch", PYTHON_RPC)
        status, before, tag = answer(own, FLAGS)
        assert answer(own, FLAGS, if_none_match=tag)[0] == 304
        with asked(own, "GET", "/ofrep/v1/events") as events:
            first = event(events)["etag"]
            assert first == f"acme.{before['metadata']['version']}"
            pause(service, "switch")
            told = event(events)
            assert (told["type"], told["etag"] != first) == ("refetchEvaluation", True)
            query = f"{FLAGS}?flagConfigEtag={told['etag']}"
            status, after, _ = answer(own, query, if_none_match=tag)
            assert (status, f"acme.{after['metadata']['version']}") == (200, told["etag"])
            assert after["flags"][0]["reason"] == "DISABLED"
            assert own.process.terminate() == 0
            # What was sent is read, and then the stream has an end.
            assert all(line.startswith((b":", b"\n")) for line in events)
