"""Evaluations: one flag, or all of them, for the context of a request."""

from collections.abc import Callable
from dataclasses import dataclass

from services.assignment.api.ofrep import wire
from services.assignment.application.flags import resolve_flag, resolve_flags
from services.assignment.application.served_flags import ServedFlags
from services.assignment.domain.config_tag import tagged_version
from shared.security.caller import current_caller
from shared.server.http import HttpReply, HttpRequest

_CONFIG_TAG, _CONFIG_TIME = "flagConfigEtag", "flagConfigLastModified"


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Answers requests for flags; `now_s` is the time in seconds since 1970."""

    served: ServedFlags
    now_s: Callable[[], float]

    async def one(self, request: HttpRequest) -> HttpReply:
        """POST /ofrep/v1/evaluate/flags/{key}.

        Raises what `context_of` and `resolve_flag` raise.
        """
        context = wire.context_of(request)
        rules = await self.served.rules(current_caller().project)
        found = await resolve_flag(request.part, context, rules, self.now_s())
        return wire.reply(wire.encoded(wire.answer(found)))

    async def all(self, request: HttpRequest) -> HttpReply:
        """POST /ofrep/v1/evaluate/flags: 304 when the client holds this very answer.

        One that was told of a change gets an answer of that version, or of a later one, and in
        full unless it is told of the version that answers.
        """
        context = wire.context_of(request)
        project = current_caller().project
        told = tagged_version(project, request.query.get(_CONFIG_TAG, "")) or 0
        rules = await self.served.rules(project, told)
        version = rules.flags.config_version
        flags = await resolve_flags(context, rules, self.now_s())
        body = wire.encoded(wire.bulk(flags, rules.flags.metadata))
        tag = wire.entity_tag(context, body)
        headers = {"etag": tag, "cache-control": "private, no-cache"}
        news = (_CONFIG_TAG in request.query or _CONFIG_TIME in request.query) and told != version
        if not news and _matches(request.headers.get("if-none-match", ""), tag):
            return HttpReply(b"", 304, headers)
        return wire.reply(body, headers)


def _matches(given: str, tag: str) -> bool:
    """Whether a tag is among those that a client holds; weak or not, it is the same answer."""
    held = {part.strip().removeprefix("W/") for part in given.split(",")}
    return tag in held or "*" in held
