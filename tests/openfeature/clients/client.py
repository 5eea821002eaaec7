"""An OpenFeature client for Python, in an environment of its own: a command a line on standard
input, as JSON, and an answer a line on standard output.

    {"do": "connect", "kind": "rpc" | "in-process" | "ofrep", "options": {...}}
    {"do": "evaluate", "flags": [[key, type, default], ...], "units": [context, ...], "workers": 8}
        -> for each unit, for each flag: [value, variant, reason, error code, metadata]
           or without "detail": [value, error code]
    {"do": "events"}     -> what happened since the last time: [event, flags]
    {"do": "close"}
"""

from __future__ import annotations

import json
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# They exist only in the client's own environment.
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent

logging.getLogger("openfeature").setLevel(logging.CRITICAL)


class Client:
    """One provider and what it says."""

    def __init__(self) -> None:
        self.happened: list[list[Any]] = []
        for event in ProviderEvent:
            api.add_handler(event, self._handler(event.name))

    def _handler(self, name: str) -> Any:
        def note(details: Any) -> None:
            self.happened.append([name, sorted(details.flags_changed or [])])

        return note

    def connect(self, command: dict[str, Any]) -> Any:
        start_s = time.monotonic()
        api.set_provider_and_wait(provider(command["kind"], command["options"]))
        self.client = api.get_client()
        return {"seconds": time.monotonic() - start_s}

    def evaluate(self, command: dict[str, Any]) -> Any:
        flags, detail = command["flags"], command.get("detail", False)
        ask: dict[str, Any] = {
            "boolean": self.client.get_boolean_details,
            "string": self.client.get_string_details,
            "integer": self.client.get_integer_details,
            "float": self.client.get_float_details,
            "object": self.client.get_object_details,
        }

        def of_unit(context: dict[str, Any]) -> list[Any]:
            attributes = dict(context)
            evaluation = EvaluationContext(attributes.pop("targetingKey", None), attributes)
            found = [ask[kind](key, default, evaluation) for key, kind, default in flags]
            return [shown(one, detail) for one in found]

        with ThreadPoolExecutor(command.get("workers", 1)) as pool:
            return list(pool.map(of_unit, command["units"]))

    def events(self, _command: dict[str, Any]) -> Any:
        found, self.happened = self.happened, []
        return found

    def close(self, _command: dict[str, Any]) -> Any:
        api.shutdown()


def shown(found: Any, detail: bool) -> list[Any]:
    error = found.error_code.value if found.error_code else None
    if not detail:
        return [found.value, error]
    return [found.value, found.variant, found.reason, error, dict(found.flag_metadata)]


def provider(kind: str, options: dict[str, Any]) -> Any:
    if kind == "ofrep":
        from openfeature.contrib.provider.ofrep import (  # type: ignore[import-not-found]
            OFREPProvider,
        )

        headers = options["headers"]
        return OFREPProvider(options["url"], headers_factory=lambda: headers, timeout=20)
    from openfeature.contrib.provider.flagd import FlagdProvider  # type: ignore[import-not-found]
    from openfeature.contrib.provider.flagd.config import (  # type: ignore[import-not-found]
        ResolverType,
    )

    return FlagdProvider(resolver_type=ResolverType(kind), **options)


def main() -> None:
    client = Client()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"answer": getattr(client, command["do"])(command)}
        except Exception as error:  # noqa: BLE001  whatever it is, the test is told
            answer = {"failed": repr(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
        if command["do"] == "close":
            break


if __name__ == "__main__":
    main()
