"""flagd.evaluation.v1.Service and flagd.evaluation.v2.Service: the same, but for ResolveAll."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from flagd.evaluation.v1 import evaluation_pb2 as v1
from google.protobuf.struct_pb2 import Struct
from touchstone_assignment.values import plain_struct

from services.assignment.api.flagd.selectors import selected
from services.assignment.api.flagd.streams import with_silence
from services.assignment.application.flag_errors import FlagError
from services.assignment.application.flag_set import FlagSet, FlagType, Scalar
from services.assignment.application.flags import ResolvedFlag, resolve_flag, resolve_flags
from services.assignment.application.served_flags import ServedFlags
from shared.clock import Clock
from shared.security.caller import Role
from shared.server.places import StreamPlaces
from shared.server.rules import Rule

V1, V2 = "flagd.evaluation.v1.Service", "flagd.evaluation.v2.Service"
KEEP_ALIVE_S = 20.0
RESOLVE = Rule(
    roles=frozenset({Role.ASSIGN}),
    any_role=False,
    mutation=False,
    per_item="",
    max_duration_s=5,
)
WATCH = Rule(
    roles=frozenset({Role.ASSIGN}),
    any_role=False,
    mutation=False,
    per_item="",
    max_duration_s=None,
    watch=True,
)
_RESOLVES = ("ResolveBoolean", "ResolveString", "ResolveFloat", "ResolveInt", "ResolveObject")
RULES: Mapping[str, Rule] = MappingProxyType(
    dict.fromkeys((*_RESOLVES, "ResolveAll"), RESOLVE) | {"EventStream": WATCH}
)


@dataclass(frozen=True, slots=True)
class EvaluationServicer:
    """Evaluates flags in the messages of `contract`, the module of one of the two versions.

    A reply always has a value, a variant and a reason, and the reason is never STATIC: clients
    keep such answers and ask no more.
    """

    contract: Any
    served: ServedFlags
    clock: Clock
    places: StreamPlaces
    keep_alive_s: float = KEEP_ALIVE_S

    async def ResolveBoolean(self, request: Any, context: Any) -> Any:
        """Evaluates a flag of truth values."""
        found = await self._resolve(request, context, FlagType.BOOLEAN)
        return self.contract.ResolveBooleanResponse(value=found.value, **_said_of(found))

    async def ResolveString(self, request: Any, context: Any) -> Any:
        """Evaluates a flag of text."""
        found = await self._resolve(request, context, FlagType.STRING)
        return self.contract.ResolveStringResponse(value=found.value, **_said_of(found))

    async def ResolveFloat(self, request: Any, context: Any) -> Any:
        """Evaluates a flag of numbers: some clients ask for whole ones here, too."""
        found = await self._resolve(request, context, FlagType.FLOAT)
        return self.contract.ResolveFloatResponse(value=found.value, **_said_of(found))

    async def ResolveInt(self, request: Any, context: Any) -> Any:
        """Evaluates a flag of numbers whose value is whole."""
        found = await self._resolve(request, context, FlagType.INTEGER)
        return self.contract.ResolveIntResponse(value=found.value, **_said_of(found))

    async def ResolveObject(self, request: Any, context: Any) -> Any:
        """Evaluates a flag of objects."""
        found = await self._resolve(request, context, FlagType.OBJECT)
        return self.contract.ResolveObjectResponse(value=_struct(found.value), **_said_of(found))

    async def ResolveAll(self, request: Any, context: Any) -> Any:
        """Evaluates every flag; one that has no answer for this context is left out."""
        rules = await self.served.rules(selected(request, context).flag_set)
        given = plain_struct(request.context)
        flags = await resolve_flags(given, rules, self.clock.now().timestamp())
        return self.contract.ResolveAllResponse(
            flags={flag.key: _any_flag(flag) for flag in flags if not isinstance(flag, FlagError)},
            metadata=_struct(rules.flags.metadata),
        )

    async def EventStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Says at once that it is ready, and that every flag may have changed while the client was
        not listening; then which flags change.
        """
        project = selected(request, context).flag_set
        with self.places.place(project):
            yield self.contract.EventStreamResponse(type="provider_ready")
            known: FlagSet | None = None
            served = self.served.changes(project)
            async for rules in with_silence(served, self.keep_alive_s):
                if rules is None:
                    yield self.contract.EventStreamResponse(type="keep_alive")
                    continue
                changes = dict(_changes(known, rules.flags))
                known = rules.flags
                if changes:
                    yield self._change(changes)

    def _change(self, changes: Mapping[str, str]) -> Any:
        data = Struct()
        data.update({"flags": {key: {"type": kind} for key, kind in changes.items()}})
        return self.contract.EventStreamResponse(type="configuration_change", data=data)

    async def _resolve(self, request: Any, context: Any, wanted: FlagType) -> ResolvedFlag:
        rules = await self.served.rules(selected(request, context).flag_set)
        given = plain_struct(request.context)
        now_s = self.clock.now().timestamp()
        return await resolve_flag(request.flag_key, given, rules, now_s, wanted)


def _changes(old: FlagSet | None, new: FlagSet) -> Iterator[tuple[str, str]]:
    """What to tell of each flag that may answer otherwise; of all of them, without an old set."""
    for key, stamp in new.stamps.items():
        if old is None:
            yield key, "update"
        elif key not in old.stamps:
            yield key, "write"
        elif old.stamps[key] != stamp:
            yield key, "update"
    for key in old.stamps if old else ():
        if key not in new.stamps:
            yield key, "delete"


def _said_of(found: ResolvedFlag) -> dict[str, Any]:
    return {
        "reason": found.reason.value,
        "variant": found.variant,
        "metadata": _metadata(tuple(found.metadata.items())),
    }


@lru_cache(maxsize=4096)
def _metadata(items: tuple[tuple[str, Scalar], ...]) -> Struct:
    """The same is said of thousands of answers, and making it takes longer than deciding."""
    return _struct(dict(items))


def _any_flag(found: ResolvedFlag) -> v1.AnyFlag:
    value: dict[str, Any] = {_FIELD[found.type]: found.value}
    if found.type is FlagType.OBJECT:
        value = {"object_value": _struct(found.value)}
    return v1.AnyFlag(**value, **_said_of(found))


_FIELD = {
    FlagType.BOOLEAN: "bool_value",
    FlagType.STRING: "string_value",
    FlagType.INTEGER: "double_value",
    FlagType.FLOAT: "double_value",
}


def _struct(fields: Any) -> Struct:
    made = Struct()
    made.update(fields)
    return made
