"""The door of OFREP on rules that a test changes, without a store behind them."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from touchstone.assignment.v1 import experiment_pb2 as experiment_pb
from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.decision import Decision
from touchstone_assignment.subject import Subject

from services.assignment.api.ofrep.changes import StreamLimits
from services.assignment.api.ofrep.door import ofrep_door
from services.assignment.application.flag_set import FlagSet, flag_set
from services.assignment.application.flags import FlagRules, Setting
from shared.errors import DomainError
from shared.security.caller import Role
from shared.testing.ports import free_port
from shared.testing.serving import Served, add_key, application, serving

NOW_S = 1_790_000_000.0


def ruleset(version: int = 12) -> pb.Ruleset:
    """An experiment for each type of value, which take all units, and one that does not run."""
    found = pb.Ruleset(format=1, project="acme", config_version=version)
    kinds: dict[str, tuple[experiment_pb.ValueType.ValueType, Any]] = {
        "button": (experiment_pb.VALUE_TYPE_KEY, None),
        "dark": (experiment_pb.VALUE_TYPE_BOOLEAN, {"bool_value": True}),
        "price": (experiment_pb.VALUE_TYPE_FLOAT, {"number_value": 3.0}),
        "rows": (experiment_pb.VALUE_TYPE_INTEGER, {"number_value": 7}),
        "title": (experiment_pb.VALUE_TYPE_STRING, {"string_value": "Grüße"}),
    }
    for key, (kind, value) in kinds.items():
        rule = _rule(found, key, kind)
        for variant in ("control", "treatment"):
            rule.variants.add(key=variant, weight=5000, value=value or {"string_value": variant})
    shape = _rule(found, "shape", experiment_pb.VALUE_TYPE_OBJECT)
    for variant in ("control", "treatment"):
        added = shape.variants.add(key=variant, weight=5000)
        added.value.struct_value.update({"side": 3, "fill": [1.5, None, True]})
    stopped = _rule(found, "stopped", experiment_pb.VALUE_TYPE_KEY)
    stopped.serving = pb.SERVING_NOT_RUNNING
    stopped.variants.add(key="control", weight=10000, value={"string_value": "control"})
    return found


def _rule(
    found: pb.Ruleset, key: str, kind: experiment_pb.ValueType.ValueType
) -> pb.ExperimentRule:
    found.layers.add(
        layer=f"layer-{key}",
        unit_type="user",
        salt="layer-salt",
        hash_version=experiment_pb.HASH_VERSION_FLAGD_V2,
    )
    return found.experiments.add(
        experiment=key,
        config_version=found.config_version,
        serving=pb.SERVING_RUNNING,
        unit_type="user",
        layer=f"layer-{key}",
        slots=[pb.Slots(first=0, end=10000)],
        salt=f"{key}-salt",
        hash_version=experiment_pb.HASH_VERSION_FLAGD_V2,
        value_type=kind,
        control="control",
    )


class Rules:
    """A ruleset that decides alone."""

    def __init__(self, rules: pb.Ruleset) -> None:
        self.ruleset = rules
        self.digest = hashlib.sha256(rules.SerializeToString(deterministic=True)).hexdigest()
        self.flags: FlagSet = flag_set(rules)
        self._evaluator = compile_ruleset(rules, _no_list)

    async def decide(
        self, experiments: Sequence[str], subject: Subject, *, keep: bool = True
    ) -> Sequence[Decision]:
        return [self._evaluator.decide(key, subject) for key in experiments]

    async def parameters(self, keys: Sequence[str], subject: Subject) -> Mapping[str, Setting]:
        return self._evaluator.parameters(subject, keys)


def _no_list(digest: str) -> Any:
    raise LookupError(digest)


class ServedRules:
    """What is served; `publish` changes it, and `error` is raised instead."""

    def __init__(self, rules: pb.Ruleset) -> None:
        self._rules: FlagRules = Rules(rules)
        self.asked: list[int] = []
        self.error: DomainError | None = None
        self._news = asyncio.Condition()

    async def rules(self, project: str, at_least: int = 0) -> FlagRules:
        assert project == "acme"
        self.asked.append(at_least)
        if self.error is not None:
            raise self.error
        return self._rules

    async def changes(self, project: str) -> AsyncIterator[FlagRules]:
        assert project == "acme"
        seen = ""
        while True:
            async with self._news:
                while self._rules.digest == seen:
                    await self._news.wait()
                rules = self._rules
            seen = rules.digest
            yield rules

    async def publish(self, rules: pb.Ruleset) -> None:
        async with self._news:
            self._rules = Rules(rules)
            self._news.notify_all()


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    """The door, what stands behind it, and a client of it."""

    def __init__(self, served: Served, address: str, rules: ServedRules) -> None:
        self.served, self.address, self.rules = served, address, rules
        self.key = add_key(served.platform, "acme", Role.ASSIGN).text

    async def one(self, key: str, context: Any = None, **headers: str) -> Reply:
        return await self.post(f"/ofrep/v1/evaluate/flags/{key}", {"context": context}, **headers)

    async def all(self, context: Any = None, query: str = "", **headers: str) -> Reply:
        return await self.post(f"/ofrep/v1/evaluate/flags{query}", {"context": context}, **headers)

    async def post(self, path: str, body: Any, **headers: str) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await asyncio.to_thread(self._post, path, data, headers)

    def _post(self, path: str, data: bytes, headers: dict[str, str]) -> Reply:
        connection, response = self.open("POST", path, data, **headers)
        with connection_of(connection):
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())

    def open(self, verb: str, path: str, data: bytes | None = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(verb, path, data, given)
        return connection, connection.getresponse()

    @asynccontextmanager
    async def events(self, **headers: str) -> AsyncIterator[Events]:
        connection, response = await asyncio.to_thread(
            self.open, "GET", "/ofrep/v1/events", None, **headers
        )
        try:
            yield Events(response)
        finally:
            response.close()
            connection.close()


class connection_of:  # noqa: N801  reads as what it is
    """Closes a connection at the end of the block."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


class Events:
    """A stream of events, block by block."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response

    async def block(self) -> list[str]:
        """The lines up to the next empty one; none at the end."""
        return await asyncio.to_thread(self._block)

    def _block(self) -> list[str]:
        lines: list[str] = []
        while line := self.response.readline().decode():
            if line == "\n":
                break
            lines.append(line.rstrip("\n"))
        return lines

    async def event(self) -> tuple[str, Any]:
        """The id and the data of the next event."""
        while True:
            lines = await self.block()
            assert lines, "the stream ended"
            fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if "data" in fields:
                assert fields["event"] == "message"
                return fields["id"], json.loads(fields["data"])


@asynccontextmanager
async def open_ofrep(
    folder: Path, limits: StreamLimits | None = None, **settings: Any
) -> AsyncIterator[Door]:
    """The door on a server of its own."""
    rules = ServedRules(ruleset())
    address = f"127.0.0.1:{free_port()}"
    door = ofrep_door(address, rules, lambda: NOW_S, limits or StreamLimits())
    found = replace(application(folder / "data", [], **settings), http=door)
    async with serving(found) as served:
        yield Door(served, address, rules)
