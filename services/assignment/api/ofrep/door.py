"""The door of OFREP: its paths, and who may come in."""

from collections.abc import Callable
from dataclasses import replace

from services.assignment.api.ofrep import wire
from services.assignment.api.ofrep.changes import Changes, StreamLimits
from services.assignment.api.ofrep.evaluate import Evaluations
from services.assignment.application.served_flags import ServedFlags
from shared.security.caller import Role
from shared.server.http import HttpDoor, HttpEndpoint, HttpLimits, HttpStream
from shared.server.rules import Rule

SERVICE = "/ofrep.v1.OpenFeature"
_RULE = Rule(
    roles=frozenset({Role.ASSIGN}),
    any_role=False,
    mutation=False,
    per_item="",
    max_duration_s=10,
    handler_validates=True,
    handler_parses=True,
)
_FLAGS = "/ofrep/v1/evaluate/flags"
_EVENTS = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    # Proxies that gather answers would keep the events to themselves.
    "x-accel-buffering": "no",
}


def ofrep_door(
    address: str,
    served: ServedFlags,
    now_s: Callable[[], float],
    limits: StreamLimits = StreamLimits(),  # noqa: B008  a frozen value
) -> HttpDoor | None:
    """The door at an address; None without one."""
    if not address:
        return None
    evaluations = Evaluations(served, now_s)
    changes = Changes(served, now_s, limits)
    one, every = f"{SERVICE}/EvaluateFlag", f"{SERVICE}/EvaluateFlags"
    return HttpDoor(
        address,
        "assignment_http_address",
        # Streams are connections that are never idle; evaluations need theirs besides.
        limits=HttpLimits(connections=2 * limits.streams),
        endpoints=[
            HttpEndpoint("POST", f"{_FLAGS}/{{}}", one, _RULE, evaluations.one, wire.failed),
            HttpEndpoint("POST", _FLAGS, every, _RULE, evaluations.all, wire.failed),
        ],
        streams=[
            HttpStream(
                wire.EVENTS_PATH,
                f"{SERVICE}/FollowChanges",
                replace(_RULE, watch=True),
                changes.follow,
                wire.failed,
                _EVENTS,
            )
        ],
    )
