"""Clients and service are killed in turn: what `flush` vouched for is stored, and stored once.

`PYTHONPATH=clients/python python -m tests.client.test_client_kill ROUNDS [SEED]` plays more rounds.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from touchstone_events import EventSender, Service, Settings

from tests.client.rig import KeyedService, eventually, python, stored

SEED = 20261123
PRODUCT = """
import sys
from pathlib import Path
from touchstone_events import About, EventSender, Service, Settings, Unit
address, key, spool, life, segment = sys.argv[1:]
settings = Settings(
    spool_folder=Path(spool), segment_bytes=int(segment), batch_events=40, batch_age_s=0.01,
    first_retry_s=0.02, longest_retry_s=0.2, deadline_s=2.0,
)
events = EventSender(Service(address, key), settings)
n = 0
while True:
    for _ in range(30):
        about = About(event_id=f"{life}.{n}")
        assert events.conversion(Unit("user", f"u{n}"), "purchase", value=n, about=about)
        n += 1
    if events.flush(30):
        print(n, flush=True)
"""


def lives(service, spool, rounds, chance):
    """Clients are killed one after another, while the service is killed and restarted beside.

    Returns the ids that some flush vouched for, and the number of kills.
    """
    vouched: set[str] = set()
    stop = threading.Event()
    kills = [0, 0]

    def strike():
        while not stop.wait(chance.uniform(0.3, 1.2)):
            service.kill()
            kills[0] += 1
            stop.wait(chance.uniform(0.0, 0.8))
            service.start()

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        for life in range(rounds):
            segment = chance.choice([2_000, 20_000, 4_000_000])
            client = python(PRODUCT, service.address, service.key, spool, life, segment)
            time.sleep(chance.uniform(0.6, 2.0))
            client.kill()
            kills[1] += 1
            out, err = client.communicate()
            assert "Traceback" not in err, err
            said = [int(line) for line in out.splitlines() if line]
            vouched |= {f"{life}.{n}" for n in range(max(said, default=0))}
    finally:
        stop.set()
        striker.join()
    return vouched, kills


def play(folder, rounds, seed):
    """One game; what was vouched for, what is stored, and the kills."""
    service = KeyedService(folder / "service")
    spool = folder / "spool"
    try:
        service.start()
        vouched, kills = lives(service, spool, rounds, random.Random(seed))
        with EventSender(
            Service(service.address, service.key), Settings(spool_folder=spool)
        ) as heir:
            eventually(lambda: not list(spool.rglob("*.segment")), 120)
            assert heir.stats().unreadable_bytes < 100_000
        eventually(lambda: vouched <= stored(service).keys())
        return vouched, stored(service), kills
    finally:
        service.kill()


def test_what_was_flushed_is_stored_once_whoever_is_killed(tmp_path):
    vouched, found, kills = play(tmp_path, 3, SEED)
    assert len(vouched) > 100, SEED
    assert min(kills) >= 1
    assert vouched <= found.keys(), SEED
    assert set(found.values()) == {1}, SEED


if __name__ == "__main__":
    rounds, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    with tempfile.TemporaryDirectory(dir="build") as scratch:
        vouched, found, kills = play(Path(scratch), rounds, seed)
    lost, doubled = vouched - found.keys(), [name for name, n in found.items() if n > 1]
    print(f"seed {seed}: service and clients killed {kills}; vouched {len(vouched)}, "
          f"stored {len(found)}, lost {len(lost)}, doubled {len(doubled)}")  # fmt: skip
    sys.exit(bool(lost or doubled))
