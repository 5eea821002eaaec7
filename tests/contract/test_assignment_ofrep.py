"""OFREP: one flag and all of them, with every answer that the protocol knows."""

from __future__ import annotations

import json

import pytest

from services.assignment.api.ofrep.wire import BODY_BYTES
from shared import errors
from shared.security.caller import Role
from shared.testing.serving import add_key
from tests.contract.ofrep_served import open_ofrep, ruleset

USER = {"targetingKey": "user-1"}
METADATA = {
    "flagSetId": "acme",
    "version": "12",
    "experiment": "button",
    "layer": "layer-button",
    "hashVersion": "flagd-v2",
    "configVersion": 12,
    "decision": "SPLIT",
}


async def test_flag_has_value_variant_reason_and_metadata(tmp_path):
    async with open_ofrep(tmp_path) as door:
        reply = await door.one("button", USER)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    body = reply.json
    assert body.pop("variant") == body.pop("value") in {"control", "treatment"}
    assert body == {"key": "button", "reason": "SPLIT", "metadata": METADATA}


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("dark", '"value":true'),
        ("price", '"value":3.0'),
        ("rows", '"value":7,'),
        ("title", '"value":"Gr\\u00fc\\u00dfe"'),
    ],
)
async def test_value_is_written_as_its_type(tmp_path, key, written):
    async with open_ofrep(tmp_path) as door:
        assert written in (await door.one(key, USER)).body.decode()


async def test_object_keeps_its_shape(tmp_path):
    async with open_ofrep(tmp_path) as door:
        found = (await door.one("shape", USER)).json["value"]
    assert found == {"side": 3, "fill": [1.5, None, True]}


async def test_flag_that_does_not_run_is_disabled_with_the_control(tmp_path):
    async with open_ofrep(tmp_path) as door:
        found = (await door.one("stopped", USER)).json
    assert (found["value"], found["variant"], found["reason"]) == ("control", "default", "DISABLED")


@pytest.mark.parametrize("key", ["nothing", "a%2Fb", "%00", "Grüße"])
async def test_flag_that_is_none_is_not_found(tmp_path, key):
    async with open_ofrep(tmp_path) as door:
        reply = await door.one(key.replace("ü", "%C3%BC").replace("ß", "%C3%9F"), USER)
    if key != "a%2Fb":
        assert reply.json["errorCode"] == "FLAG_NOT_FOUND"
    assert reply.status == 404


@pytest.mark.parametrize("context", [None, {}, {"country": "DE"}, {"targetingKey": ""}])
async def test_without_an_id_the_targeting_key_is_missing(tmp_path, context):
    async with open_ofrep(tmp_path) as door:
        reply = await door.one("button", context)
        every = await door.all(context)
    found = reply.json
    assert (reply.status, found["key"], found["errorCode"]) == (
        *(400, "button", "TARGETING_KEY_MISSING"),
    )
    assert "decided by the id of a user" in found["errorDetails"]
    assert every.status == 200
    codes = {flag["key"]: flag.get("errorCode") for flag in every.json["flags"]}
    assert codes.pop("stopped") is None
    assert set(codes.values()) == {"TARGETING_KEY_MISSING"}


@pytest.mark.parametrize(
    "context",
    [[], "user-1", 7, True, {"targetingKey": 7}, {"targetingKey": ["a"]}],
    ids=["list", "text", "number", "truth", "key is a number", "key is a list"],
)
async def test_context_that_is_none_is_invalid(tmp_path, context):
    async with open_ofrep(tmp_path) as door:
        replies = [await door.one("button", context), await door.all(context)]
    for reply in replies:
        assert (reply.status, reply.json["errorCode"]) == (400, "INVALID_CONTEXT")


@pytest.mark.parametrize("unit_id", ["x" * 257, "a\x00b", "\ud800"])
async def test_id_that_cannot_be_one_is_invalid_and_not_repeated(tmp_path, unit_id):
    async with open_ofrep(tmp_path) as door:
        reply = await door.one("button", {"targetingKey": unit_id})
    assert (reply.status, reply.json["errorCode"]) == (400, "INVALID_CONTEXT")
    assert unit_id not in reply.json["errorDetails"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b'{"context": {"a": NaN}}', b'{"context": {"a": -Infinity}}',
     b"\xff\xfe", b"[" * 100_000, b'{"context": {"a": ' + b"9" * 5000 + b"}}"],
    ids=["empty", "cut", "list", "number", "nan", "infinity", "not utf-8", "deep", "huge number"],
)  # fmt: skip
async def test_body_that_is_no_json_object_is_a_parse_error(tmp_path, body):
    async with open_ofrep(tmp_path) as door:
        reply = await door.post("/ofrep/v1/evaluate/flags/button", body)
    assert (reply.status, reply.json["errorCode"]) == (400, "PARSE_ERROR")
    assert reply.json["key"] == "button"


async def test_large_body_is_refused(tmp_path):
    body = {"context": {**USER, "note": "x" * BODY_BYTES}}
    async with open_ofrep(tmp_path) as door:
        reply = await door.post("/ofrep/v1/evaluate/flags", body)
    assert (reply.status, reply.json["errorCode"]) == (413, "GENERAL")
    assert str(BODY_BYTES) in reply.json["errorDetails"]


async def test_key_and_its_role_are_needed(tmp_path):
    async with open_ofrep(tmp_path) as door:
        viewer = add_key(door.served.platform, "acme", Role.VIEWER).text
        nobody = await door.one("button", USER, authorization="Bearer nonsense")
        wrong = await door.all(USER, authorization=f"Bearer {viewer}")
        by_key = await door.post(
            "/ofrep/v1/evaluate/flags/button", {"context": USER}, authorization="", x_api_key="no"
        )
    assert (nobody.status, wrong.status, by_key.status) == (401, 403, 401)
    assert {reply.json["errorCode"] for reply in (nobody, wrong, by_key)} == {"GENERAL"}


async def test_overload_says_when_to_come_again(tmp_path):
    async with open_ofrep(tmp_path) as door:
        door.rules.error = errors.overloaded("busy", 7)
        busy = await door.one("button", USER)
        door.rules.error = errors.unavailable("DEPENDENCY_UNAVAILABLE", "the store is away")
        away = await door.all(USER)
    assert (busy.status, busy.headers["retry-after"], busy.json["errorCode"]) == (
        *(429, "7", "GENERAL"),
    )
    assert (away.status, away.json["errorDetails"]) == (503, "the store is away")


async def test_all_flags_come_at_once_with_where_changes_are_told(tmp_path):
    async with open_ofrep(tmp_path) as door:
        reply = await door.all(USER)
        alone = [(await door.one(flag["key"], USER)).json for flag in reply.json["flags"]]
    body = reply.json
    assert body["flags"] == alone
    assert [flag["key"] for flag in alone] == sorted(
        ["button", "dark", "price", "rows", "shape", "stopped", "title"]
    )
    assert body["metadata"] == {"flagSetId": "acme", "version": "12"}
    assert body["eventStreams"] == [
        {
            "type": "sse",
            "endpoint": {"requestUri": "/ofrep/v1/events"},
            "inactivityDelaySec": 120,
        }
    ]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_answer_that_the_client_holds_is_not_sent_again(tmp_path, form):
    async with open_ofrep(tmp_path) as door:
        first = await door.all(USER)
        tag = first.headers["etag"]
        again = await door.all(USER, if_none_match=form.format(tag))
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)


async def test_tag_covers_context_version_and_attributes(tmp_path):
    async with open_ofrep(tmp_path) as door:
        tag = (await door.all(USER)).headers["etag"]
        others = [
            {"targetingKey": "user-2"},
            {**USER, "country": "DE"},
            {**USER, "n": 1},
            {**USER, "n": "1"},
        ]
        replies = [await door.all(other, if_none_match=tag) for other in others]
        await door.rules.publish(ruleset(version=13))
        replies.append(await door.all(USER, if_none_match=tag))
    assert [reply.status for reply in replies] == [200] * 5
    assert len({tag, *(reply.headers["etag"] for reply in replies)}) == 6


async def test_order_of_a_context_does_not_matter(tmp_path):
    async with open_ofrep(tmp_path) as door:
        tag = (await door.all({"a": 1, **USER})).headers["etag"]
        assert (await door.all({**USER, "a": 1}, if_none_match=tag)).status == 304


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?flagConfigEtag=acme.12", 304),
        ("?flagConfigEtag=%22acme.12%22", 304),
        ("?flagConfigEtag=acme.13", 200),
        ("?flagConfigEtag=acme.11", 200),
        ("?flagConfigEtag=rival.12", 200),
        ("?flagConfigEtag=", 200),
        ("?flagConfigLastModified=1790000000", 200),
        ("?flagConfigEtag=acme.12&flagConfigLastModified=1790000000", 304),
    ],
)
async def test_news_is_never_downgraded_to_what_the_client_holds(tmp_path, query, status):
    async with open_ofrep(tmp_path) as door:
        tag = (await door.all(USER)).headers["etag"]
        assert (await door.all(USER, query, if_none_match=tag)).status == status


async def test_client_that_was_told_of_a_version_is_answered_by_no_older_one(tmp_path):
    async with open_ofrep(tmp_path) as door:
        await door.all(USER, "?flagConfigEtag=acme.15")
        await door.all(USER, "?flagConfigEtag=rival.15")
        assert door.rules.asked == [15, 0]


async def test_answers_are_json_that_any_reader_takes(tmp_path):
    async with open_ofrep(tmp_path) as door:
        body = (await door.all({**USER, "note": "\u2028 \ud800"})).body
    assert body.isascii()
    assert json.loads(body)["flags"]
