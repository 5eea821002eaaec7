"""touchstone up: the four services under one supervisor."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from services.cli.options import Data
from services.cli.owner import prepare
from services.cli.settings import DEFAULT_PROJECT, CliSettings, read_settings
from services.cli.suite import (
    is_answering,
    is_serving,
    only_supervisor,
    programs,
    require_free_addresses,
)
from services.cli.supervisor import Program, Stop, Supervisor
from services.cli.terminal import say, standard_output
from shared.settings import SERVICES


def up(
    project: Annotated[
        str, typer.Option(help="Project of the owner key that a first start makes.")
    ] = DEFAULT_PROJECT,
    data: Data = None,
) -> None:
    """Start the four services and keep them running until Ctrl-C.

    The first start makes the data folder and an owner key in it, which every command finds.
    """
    settings = read_settings(data)
    stop = Stop()
    with _signals(stop), running(settings, project, stop) as supervisor:
        if supervisor is not None:
            with standard_output() as out:
                out.write(_where(settings))
            say("press Ctrl-C to stop")
            supervisor.watch(stop)
        say("draining")
    say("stopped")


@contextmanager
def running(settings: CliSettings, project: str, stop: Stop) -> Iterator[Supervisor | None]:
    """The suite while the block runs, every service serving; None when it was asked to stop
    before that. Drains it at the end.

    Raises FAILED_PRECONDITION that says why it cannot start.
    """
    from shared.server.platform import prepare_folder

    prepare_folder(settings.data)
    with only_supervisor(settings.data):
        require_free_addresses(settings)
        prepare(settings, project)

        def serving(program: Program) -> bool:
            return is_serving(settings.address(program.name), settings.client_tls)

        def answers(program: Program) -> bool:
            return is_answering(settings.address(program.name), settings.client_tls)

        supervisor = Supervisor(serving, say, answers=answers)
        say("starting " + ", ".join(SERVICES))
        try:
            yield supervisor if supervisor.start(programs(settings), stop) else None
        finally:
            supervisor.drain(stop)


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop.ask) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _where(settings: CliSettings) -> str:
    lines = [f"{name:<12} {settings.address(name)}" for name in SERVICES]
    if settings.assignment_http_address:
        lines.append(f"{'ofrep/http':<12} {settings.assignment_http_address}")
    if settings.events_http_address:
        lines.append(f"{'otlp/http':<12} {settings.events_http_address}")
    places: list[tuple[str, Path]] = [
        ("data", settings.data),
        ("key", settings.owner_key_path),
        ("logs", settings.logs_path),
    ]
    lines += [f"{name:<12} {path.absolute()}" for name, path in places]
    return "\n".join(lines) + "\n"
