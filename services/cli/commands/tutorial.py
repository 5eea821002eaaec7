"""touchstone tutorial: the whole loop at work, beside the truth."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import SecretStr
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import attribution_service_pb2 as attribution_pb
from touchstone.results.v1 import results_service_pb2 as results_pb

from services.cli.commands.attribution import tell_summary
from services.cli.commands.results import METHODS, Method, tell_health
from services.cli.commands.suite import running
from services.cli.progress import progress_bar
from services.cli.rendering import Format, write
from services.cli.session import Session
from services.cli.settings import DEFAULT_PROJECT, CliSettings, read_settings
from services.cli.suite import free_addresses, only_supervisor
from services.cli.supervisor import Stop
from services.cli.terminal import say
from shared.clock import SystemClock
from shared.errors import failed_precondition
from shared.settings import MORE_ADDRESSES, SERVICES

# The simulation is slow to load, and no other command needs it: it is loaded where it is used.
if TYPE_CHECKING:
    import numpy as np

_FOLDER = Path("build/tutorial")


def tutorial(
    *,
    customers: Annotated[int, typer.Option(min=100, help="Customers of the experiment.")] = 20_000,
    visitors: Annotated[int, typer.Option(min=100, help="Visitors with a journey.")] = 8_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 2026,
    data: Annotated[
        Path | None, typer.Option(help="An empty folder for the data. [default: build/tutorial]")
    ] = None,
) -> None:
    """Play an experiment and customer journeys through the four services, beside the truth.

    Starts the services on free ports, simulates a shop whose truth is known, prints what the
    services found beside it, and stops them.
    """
    import numpy as np

    began = time.monotonic()
    settings = _settings(data)
    _make_room(settings.data, ours=data is None)
    say(f"a simulated shop, seed {seed}, in {settings.data}")
    say("who gets which variant differs each time, because salts are random; the journeys do not")
    stop = Stop()
    with running(settings, DEFAULT_PROJECT, stop) as supervisor:
        assert supervisor is not None, "nothing asks this suite to stop while it starts"
        with Session(settings) as session:
            _play(session, customers, visitors, np.random.default_rng(seed))
        say("draining the services")
    say(f"done in {time.monotonic() - began:.0f} s")
    _say_next(settings)


def _play(session: Session, customers: int, visitors: int, random: np.random.Generator) -> None:
    from services.cli.tutorial import play
    from services.cli.tutorial.report import attribution_view, results_view
    from services.cli.tutorial.shop import EXPERIMENT
    from services.cli.tutorial.visitors import EVENT_NAME

    now = SystemClock().now()
    say(f"making two metrics and starting experiment {EXPERIMENT}")
    play.define(session)
    with progress_bar() as progress:
        variants = play.assign_customers(session, customers, progress)
        play.log_shop(session, variants, now, random, progress)
        token = play.log_journeys(session, visitors, now, random, progress)
    results = session.results.GetResults(
        results_pb.GetResultsRequest(
            experiment=session.name("experiments", EXPERIMENT),
            consistency_token=token,
            # It looks once, at the end.
            methods=[METHODS[Method.FIXED]],
        )
    )
    write(results_view(results.results), Format.TABLE)
    say("an interval misses the truth in 1 of 20 cases; purchase and revenue miss it together")
    tell_health(results.results)
    attribution = session.attribution.GetAttribution(
        attribution_pb.GetAttributionRequest(
            journeys=attribution_pb2.JourneyDefinition(event_name=EVENT_NAME),
            consistency_token=token,
        )
    )
    write(attribution_view(attribution), Format.TABLE)
    tell_summary(attribution)


def _settings(data: Path | None) -> CliSettings:
    """Everything in the folder and on free ports, whatever the environment says."""
    addresses = {
        f"{name}_address": address
        for name, address in zip(SERVICES, free_addresses(len(SERVICES)), strict=True)
    }
    # Nothing of it comes by another way.
    addresses |= dict.fromkeys(MORE_ADDRESSES, "")
    folder = {"data": data or _FOLDER, "lake": None, "database_url": "", "api_key": SecretStr("")}
    return read_settings().model_copy(update={**addresses, **folder})


def _make_room(folder: Path, *, ours: bool) -> None:
    """Empties the tutorial's own folder of an earlier run; never a folder that the user named."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not ours or not (folder / "supervisor.lock").exists():
        raise failed_precondition(
            "WRONG_STATE", f"{folder} is not empty; name an empty folder with --data"
        )
    with only_supervisor(folder):
        shutil.rmtree(folder)


def _say_next(settings: CliSettings) -> None:
    from services.cli.tutorial.shop import EXPERIMENT

    say("")
    say("next:")
    steps = {
        f"touchstone up --data {settings.data}": "look around in this data; then, elsewhere:",
        f"touchstone results show {EXPERIMENT} --data {settings.data}": "the same results",
        "touchstone up": "begin with a folder of your own",
        "touchstone import --help": "replay your own data",
    }
    width = max(map(len, steps))
    for command, why in steps.items():
        say(f"  {command:<{width}}  {why}")
