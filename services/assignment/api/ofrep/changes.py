"""The stream that tells clients to evaluate again."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from services.assignment.api.flagd.streams import with_silence
from services.assignment.api.ofrep import wire
from services.assignment.application.served_flags import ServedFlags
from shared.security.caller import current_caller
from shared.server.http import HttpRequest
from shared.server.places import StreamPlaces

_OPENING = b"retry: 2000\n: changes of flags\n\n"
_HEARTBEAT = b": still here\n\n"
_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many streams may be open, and how long one may be silent."""

    streams: int = 2000
    """Of one process; one project has its share of them."""
    heartbeat_s: float = 15.0
    """Proxies end what is silent for long, often for a minute."""


class Changes:
    """Gives each client the changes of its project's flags."""

    def __init__(
        self, served: ServedFlags, now_s: Callable[[], float], limits: StreamLimits
    ) -> None:
        self._served, self._now_s, self._limits = served, now_s, limits
        self._places = StreamPlaces(
            limits.streams,
            "streams of changes",
            "close those that nobody needs, or evaluate now and then instead",
            _WAIT_S,
        )

    async def follow(self, request: HttpRequest) -> AsyncIterator[bytes]:
        """GET /ofrep/v1/events.

        It begins with an event, unless the client's last one was of this version: what changed
        since the client evaluated would be lost otherwise. Each change is told, also one to an
        older version or the same. RESOURCE_EXHAUSTED, with a delay, when too many streams are open.
        """
        project = current_caller().project
        with self._places.place(project):
            seen = request.headers.get("last-event-id", "")
            yield _OPENING
            changes = self._served.changes(project)
            async for rules in with_silence(changes, self._limits.heartbeat_s):
                if rules is None:
                    yield _HEARTBEAT
                    continue
                version = rules.flags.config_version
                if str(version) != seen:
                    yield wire.change(project, version, int(self._now_s()))
                seen = ""
