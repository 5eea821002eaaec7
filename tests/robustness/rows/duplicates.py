"""Rows 6 to 9: event ids that come again, and batches of which a part is bad."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from touchstone.events.v1 import events_service_pb2_grpc

from tests.robustness.content import BAD, Name
from tests.robustness.fault import Fault, Play, Scene, open_scene
from tests.robustness.history import ACCEPTED, DUPLICATE, Call, Outcome
from tests.robustness.model import CONFLICT, Verdict
from tests.robustness.traffic import CHANNEL, send


@dataclass(frozen=True, slots=True)
class Hand:
    """Sends by hand what a row needs, and holds the answers against what the row expects."""

    scene: Scene
    stub: events_service_pb2_grpc.EventsServiceStub

    def send(self, names: list[Name]) -> list[str]:
        """What became of each item; AssertionError when the call was not answered."""
        call = Call(0, names[0].project, names, 0.0)
        outcome = send(self.stub, self.scene.target, call, self.scene.history)
        assert outcome is Outcome.OK, call.code
        return call.statuses

    def expect(self, names: list[Name], *wanted: str) -> None:
        """Send, and complain of every item whose status is none of these."""
        for name, status in zip(names, self.send(names), strict=True):
            if status not in wanted:
                self.scene.history.complain("status", f"{name} is {status}, not one of {wanted}")

    def at_once(self, batches: list[list[Name]]) -> None:
        """Send batches at the same moment."""
        with ThreadPoolExecutor(len(batches)) as threads:
            list(threads.map(self.send, batches))


@contextlib.contextmanager
def by_hand(scene: Scene) -> Iterator[Hand]:
    """A connection to the service of a scene."""
    with grpc.insecure_channel(scene.target.address, options=CHANNEL) as channel:
        yield Hand(scene, events_service_pb2_grpc.EventsServiceStub(channel))


def scripted(script: Callable[[Hand, int], None]) -> Callable[[Play], Verdict]:
    """A row that runs a script once a round, with a kill -9 before each but the first."""

    def play(play: Play) -> Verdict:
        scene = open_scene(play)
        try:
            for number in range(play.rounds):
                if number:
                    scene.process.kill()
                    scene.process.start()
                    scene.faults += 1
                with by_hand(scene) as hand:
                    script(hand, number)
            return scene.verdict()
        finally:
            scene.process.kill()

    return play


def names(project: str, prefix: str, count: int, take: int = 0) -> list[Name]:
    """Names of one project that differ by their number."""
    return [Name(project, f"{prefix}{number}", take) for number in range(count)]


def _repetitions(hand: Hand, number: int) -> None:
    """The same events again: at once, in other batches, after every earlier restart."""
    for earlier in range(number):
        hand.expect(names("acme", f"r{earlier}-", 200), DUPLICATE)
    new = names("acme", f"r{number}-", 200)
    hand.at_once([new, new[50:150], new[::-1], new])
    hand.expect(new[100:] + new[:100], DUPLICATE)
    hand.expect([new[0], new[0], new[1]], DUPLICATE)


def _conflicts(hand: Hand, number: int) -> None:
    """Other content under ids that were used: at once, in one batch, after every restart."""
    for earlier in range(number):
        hand.expect(names("acme", f"x{earlier}-", 100, take=1), CONFLICT)
        hand.expect(names("acme", f"x{earlier}-", 100), DUPLICATE)
    first, other = (names("acme", f"x{number}-", 100, take) for take in (0, 1))
    hand.expect(first, ACCEPTED)
    hand.expect(other, CONFLICT)
    both = [name for pair in zip(first, other, strict=True) for name in pair]
    hand.send([name._replace(event_id=f"b{name.event_id}") for name in both])
    racing = [[n._replace(event_id=f"z{n.event_id}") for n in side] for side in (first, other)]
    hand.at_once(racing)


def _tenants(hand: Hand, number: int) -> None:
    """The same ids in two projects are two events each, also after a restart."""
    for earlier in range(number):
        for project in ("acme", "rival"):
            hand.expect(names(project, f"t{earlier}-", 100), DUPLICATE)
    for project in ("acme", "rival"):
        hand.expect(names(project, f"t{number}-", 100), ACCEPTED)


def _one_bad(hand: Hand, number: int) -> None:
    """Of 500 one is bad: the others are stored, and it is kept with its reason."""
    good = names("acme", f"g{number}-", 499)
    for place in (0, 250, 499):
        bad = Name("acme", f"{BAD}{number}-{place}")
        batch = [*good[:place], bad, *good[place:]]
        statuses = hand.send(batch)
        wanted = ACCEPTED if place == 0 else DUPLICATE
        if statuses.count(wanted) != 499:
            hand.scene.history.complain("status", f"{bad} at {place}: {set(statuses)}")


REPEAT = Fault(
    6,
    "events are sent again: at once, in other batches, after a kill -9",
    scripted(_repetitions),
    twins={"forgetful": 2, "no_dedupe": 1},
    short=2,
    rounds=20,
)
CONFLICTS = Fault(
    7,
    "an id comes again with other content",
    scripted(_conflicts),
    twins={"no_digest": 1},
    short=2,
    rounds=20,
)
TENANTS = Fault(
    8, "two projects use the same ids", scripted(_tenants), twins={"one_tenant": 1}, short=2
)
PARTIAL = Fault(
    9, "one of 500 items is bad", scripted(_one_bad), twins={"rejected_dropped": 1}, short=1
)
