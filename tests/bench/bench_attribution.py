"""Attribution of a million journeys (4 touches on average, 15 channels, 5% converting).

The peers run the same journeys in environments of their own. Before a time is compared, the
figures are: the totals of the rules must agree, and the removal effects too (to the error of the
simulation, for the peer that simulates). Our times are of the processor; a peer's are the lesser of
the clock's and the processor's, so that other work on the machine favours neither.
"""

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.journeys import JourneyRules, Journeys, build_journeys
from services.attribution.domain.markov import (
    chain_removal_effects,
    count_chain,
    count_transitions,
    removal_effects,
)
from services.attribution.domain.models import (
    EVERY_MODEL,
    FirstTouch,
    LastTouch,
    Linear,
    Model,
    Position,
    RuleModel,
    TimeDecay,
)
from services.attribution.domain.paths.aggregated import PathColumns, read_paths
from services.attribution.domain.totals import model_totals
from tests.bench.report import BenchRow, compared, missing, peer_environment

AREA = "attribution"
JOURNEYS = 1_000_000
CHANNELS = tuple(f"channel_{number:02d}" for number in range(15))
QUARTER_HOUR_US = 900_000_000
RULES: dict[str, RuleModel] = {
    "first_click": FirstTouch(),
    "last_click": LastTouch(),
    "linear": Linear(),
    "position_based": Position(),
    "time_decay": TimeDecay(),
}
PEER_GOAL = "<= 0.1"
ORDER_GOALS = {1: "<= 0.05", 2: "<= 0.2", 3: "<= 0.2"}
"""The journeys are codes already, as they are when they come from the event log."""
TEXT_GOAL = "<= 0.25"
"""From the texts of paths on, as the peer that reads texts has to begin too."""
EXACT = 1e-9

Effects = np.ndarray[Any, np.dtype[np.float64]]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that attributes too, and how to get it.

    `simulated_conversions` is how many converting walks its removal effects rest on; 0 means that
    they are exact.
    """

    name: str
    command: str
    requirements: tuple[str, ...]
    simulated_conversions: int
    rules: str
    orders: tuple[int, ...]
    reads_texts: bool = False


PEERS = (
    Peer(
        "marketing-attribution-models 2.1.1",
        "mam",
        ("marketing-attribution-models==2.1.1",),
        0,
        "first, last, linear, position, time decay",
        (1,),
    ),
    Peer(
        "ChannelAttribution 2.2.5",
        "channel_attribution",
        ("ChannelAttribution==2.2.5", "matplotlib", "pyarrow"),
        500,  # it returns one fold of 10,000 walks, of which one in twenty converts
        "first, last, linear",
        (1, 2, 3),
        reads_texts=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Ours:
    """What we took, and what we found."""

    cut_s: float
    rules_s: float
    statistics: JourneyStatistics
    markov_s: dict[int, float]
    effects: dict[int, Effects]
    text_s: dict[int, float]


def run() -> list[BenchRow]:
    """Ours beside one pass over memory, and beside each peer that can be had."""
    touches, conversions = generate()
    rules = JourneyRules(lookback_us=366 * 86_400_000_000)
    cut_s, journeys = fastest(lambda: build_journeys(touches, conversions, rules))
    rules_s, statistics = fastest(
        lambda: measure(touches, journeys, [*RULES.values()], rules.start_us)
    )
    markov = {order: fastest(partial(effects_of, journeys, order)) for order in ORDER_GOALS}
    every_s, _ = fastest(lambda: answer(touches, journeys, EVERY_MODEL))
    pass_s, _ = fastest(lambda: np.bincount(journeys.codes, minlength=len(CHANNELS)))
    rows = [
        against_one_pass("cut 1M journeys out of 4M sorted touches", cut_s, pass_s, "<= 60"),
        against_one_pass("every model, totals, 1M journeys", every_s, pass_s, "<= 60"),
        against_one_pass("order-1 Markov, 1M journeys", markov[1][0], pass_s, "<= 20"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_for_peers(Path(folder), journeys)
        texts = texts_of_paths(Path(folder))
        ours = Ours(
            cut_s,
            rules_s,
            statistics,
            {order: seconds for order, (seconds, _) in markov.items()},
            {order: effects for order, (_, effects) in markov.items()},
            {order: from_texts(texts, order, markov[order][1]) for order in ORDER_GOALS},
        )
        for peer in PEERS:
            rows.extend(beside(peer, ours, Path(folder)))
    return rows


def generate() -> tuple[Touches, Conversions]:
    """Journeys of 1 + Poisson(3) touches; the share of a channel falls with its number."""
    generator = np.random.default_rng(7)
    lengths = 1 + generator.poisson(3, JOURNEYS)
    total = int(lengths.sum())
    shares = np.arange(len(CHANNELS), 0, -1) / np.arange(len(CHANNELS) + 1).sum()
    units = np.repeat(np.arange(JOURNEYS), lengths)
    times = np.arange(total) * QUARTER_HOUR_US
    touches = Touches(
        CHANNELS,
        units,
        times,
        generator.choice(len(CHANNELS), total, p=shares).astype(np.int32),
        np.full(total, np.nan),
    )
    last = np.cumsum(lengths) - 1
    bought = np.flatnonzero(generator.random(JOURNEYS) < 0.05)
    return touches, Conversions(bought, times[last[bought]], np.ones(len(bought)))


def answer(touches: Touches, journeys: Journeys, models: Sequence[Model]) -> int:
    """Everything that GetAttribution computes once the journeys are cut."""
    statistics = measure(touches, journeys, models, JourneyRules().start_us)
    return sum(len(model_totals(model, statistics, journeys)) for model in models)


def effects_of(journeys: Journeys, order: int) -> Effects:
    """The removal effects of all journeys, from their codes on."""
    if order == 1:
        first, rest = count_transitions(journeys)
        return removal_effects(first + rest).effects
    converting, others = count_chain(journeys, order)
    return chain_removal_effects(converting + others).effects


def texts_of_paths(folder: Path) -> PathColumns:
    """The paths as the peer has them in memory: a row of Python text and two counts each."""
    table = pq.read_table(folder / "paths.parquet")
    return PathColumns(
        table["path"].to_pylist(), table["conversions"].to_numpy(), None, table["nulls"].to_numpy()
    )


def from_texts(texts: PathColumns, order: int, effects: Effects) -> float:
    """The seconds from the texts of paths to the removal effects, which must be the same."""
    seconds, found = fastest(lambda: effects_of(read_paths(texts).journeys, order))
    if not np.allclose(found, effects, rtol=EXACT, atol=0):
        raise AssertionError(f"order {order} from texts: {found} is not {effects}")
    return seconds


def fastest(work: Callable[[], T], repeats: int = 3) -> tuple[float, T]:
    """The least processor time of some runs, in seconds, and the last result."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def against_one_pass(name: str, ours_s: float, pass_s: float, goal: str) -> BenchRow:
    """A row whose reference is the least that any program must do: read the codes once."""
    return compared(
        AREA,
        name,
        ours=ours_s,
        reference=pass_s,
        reference_name="one numpy pass over the channel codes",
        unit="s",
        goal=goal,
    )


def beside(peer: Peer, ours: Ours, folder: Path) -> list[BenchRow]:
    """The rows of one peer, missing where it cannot be had."""
    python, reason = peer_environment(peer.command, peer.requirements)
    theirs = None
    if python is not None:
        theirs, reason = ask(peer, python, folder)
    if theirs is None:
        return [
            missing(
                AREA,
                line.name,
                ours=line.ours_s,
                reference_name=peer.name,
                unit="s",
                goal=line.goal,
                reason=reason,
            )
            for line in lines_of(peer, ours)
        ]
    require_agreement(peer, ours, theirs)
    taken = {order: found["markov_s"] for order, found in theirs["orders"].items()}
    return [
        compared(
            AREA,
            line.name,
            ours=line.ours_s,
            reference=taken.get(line.order, theirs["rules_s"]),
            reference_name=peer.name,
            unit="s",
            goal=line.goal,
        )
        for line in lines_of(peer, ours)
    ]


@dataclass(frozen=True, slots=True)
class Line:
    """What is compared with a peer: a Markov order of it, or its rules (no order)."""

    name: str
    ours_s: float
    goal: str
    order: str = ""


def lines_of(peer: Peer, ours: Ours) -> list[Line]:
    """What a peer is compared by."""
    lines = [Line(f"rules ({peer.rules}), 1M journeys", ours.rules_s, PEER_GOAL)]
    for order in peer.orders:
        name = f"order-{order} Markov, 1M journeys"
        lines.append(Line(name, ours.markov_s[order], ORDER_GOALS[order], str(order)))
        if peer.reads_texts:
            name = f"order-{order} Markov from texts, 1M paths"
            lines.append(Line(name, ours.text_s[order], TEXT_GOAL, str(order)))
    return lines


def ask(peer: Peer, python: Path, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What the peer measured in its own process, or None and why there is nothing."""
    script = Path(__file__).with_name("attribution_peers.py")
    command = [str(python), "-I", str(script), peer.command, str(folder)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        return None, error.stderr.strip().splitlines()[-1]
    except subprocess.TimeoutExpired as error:
        return None, str(error)
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured, ""


def require_agreement(peer: Peer, ours: Ours, theirs: dict[str, Any]) -> None:
    """Raise unless the peer found what we found: a time for another answer compares nothing."""
    for order in peer.orders:
        found = theirs["orders"][str(order)]["effects"]
        for channel, effect in zip(CHANNELS, ours.effects[order].tolist(), strict=True):
            allowed = EXACT
            if peer.simulated_conversions:
                # Five standard errors of a share among that many conversions.
                allowed = 5 * math.sqrt(effect * (1 - effect) / peer.simulated_conversions)
            require_close(f"{peer.name}: {order}, {channel}", found[channel], effect, allowed)
    for rule, totals in theirs.get("totals", {}).items():
        mine = ours.statistics.rule_credits[RULES[rule]].conversions.tolist()
        for channel, total in zip(CHANNELS, mine, strict=True):
            require_close(f"{peer.name}: {rule}, {channel}", totals[channel], total, EXACT * total)


def require_close(what: str, theirs: float, ours: float, allowed: float) -> None:
    """Raise unless the figures differ by at most what is allowed."""
    if not abs(theirs - ours) <= allowed:
        raise AssertionError(f"{what}: {theirs} is not {ours} within {allowed}")


def write_for_peers(folder: Path, journeys: Journeys) -> None:
    """The same journeys as rows of touches and as strings of paths."""
    lengths = np.diff(journeys.offsets)
    number = np.repeat(np.arange(len(journeys)), lengths)
    dictionary = pa.array([*CHANNELS])
    names = pa.DictionaryArray.from_arrays(pa.array(journeys.codes), dictionary).cast(pa.string())
    touches = {
        "journey": pa.array(number).cast(pa.string()),
        "time_us": pa.array(journeys.times),
        "channel": names,
        "converted": pa.array(np.repeat(journeys.converted, lengths)),
    }
    pq.write_table(pa.table(touches), folder / "journeys.parquet")
    lists = pa.ListArray.from_arrays(pa.array(journeys.offsets.astype(np.int32)), names)
    paths = {
        "path": pc.binary_join(lists, " > "),
        "conversions": pa.array(journeys.converted.astype(np.int64)),
        "nulls": pa.array((~journeys.converted).astype(np.int64)),
    }
    pq.write_table(pa.table(paths), folder / "paths.parquet")
