"""Follows the rules of the service, in threads of its own."""

from __future__ import annotations

import threading

from touchstone_events.system import System

from touchstone_assignment.local.backoff import pause_s
from touchstone_assignment.local.kept_rules import RefusedError
from touchstone_assignment.local.list_fetcher import ListFetcher
from touchstone_assignment.local.rule_book import RuleBook
from touchstone_assignment.local.settings import Settings
from touchstone_assignment.local.status import LOG
from touchstone_assignment.local.wire import Wire, WireError

_LOOKS_A_PERIOD = 4
_MOST_BETWEEN_LOOKS_S = 5.0
_PARK_EVERY_S = 0.02
_ENDED = "UNAVAILABLE"
"""How a stream ends that has come to its time."""


class Follower:
    """Keeps a stream open and a rule book up to date until it is closed. Starts once."""

    def __init__(self, book: RuleBook, wire: Wire, settings: Settings, system: System) -> None:
        self.connected = False
        self.failures = 0
        self.heard = threading.Event()
        """Set when the service has sent something: for those who wait."""
        self._book = book
        self._wire = wire
        self._settings = settings
        self._system = system
        self._closing = threading.Event()
        self._stirred = threading.Event()
        self._parked = threading.Event()
        self._may_go = threading.Event()
        self._may_go.set()
        self._failed = ""
        self._lists = ListFetcher(book, wire, settings, system, self._may_go)
        work = [(self._follow, "touchstone-rules"), (self._look, "touchstone-rules-age")]
        if settings.id_lists:
            work.append((self._lists.run, "touchstone-rules-lists"))
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True) for target, name in work
        ]

    @property
    def list_problem(self) -> str:
        """What went wrong with an id list last; empty when all are there."""
        return self._lists.problem

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float) -> bool:
        """End the threads and the connection. Whether they ended in time."""
        self._closing.set()
        self._lists.close()
        self._may_go.set()
        self._stirred.set()
        self._wire.disconnect()
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def park(self, timeout_s: float) -> None:
        """Have no connection until `unpark`: a child that is made meanwhile inherits none."""
        self._may_go.clear()
        self._stirred.set()
        end = self._system.monotonic() + timeout_s
        if threading.current_thread() not in self._threads:
            # Again and again, for a connection may just be opening.
            while self._system.monotonic() < end:
                self._wire.disconnect()
                if self._parked.wait(_PARK_EVERY_S) and self._lists.idle.wait(_PARK_EVERY_S):
                    break
        self._wire.quiesce()

    def unpark(self) -> None:
        """Go on."""
        if not self._closing.is_set():
            self._stirred.clear()
            self._wire.resume()
        self._may_go.set()

    def _follow(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            if not self._may_go.is_set():
                self._parked.set()
                self._may_go.wait()
                self._parked.clear()
                continue
            attempt = 0 if self._watch() else attempt + 1
            self._pause(attempt)

    def _watch(self) -> bool:
        """One stream. Whether it brought rules, or a word that they are the same."""
        heard = False
        try:
            for response in self._wire.watch(self._book.digest):
                self._book.receive(response)
                heard = self.connected = True
                self._failed = ""
                self.heard.set()
                self._lists.follow(self._book.digest)
        except WireError as error:
            self._note(error, heard=heard)
        except RefusedError as error:
            heard = False
            self._book.refuse(error)
            # The stream is still open, and nothing that follows in it would be taken.
            self._wire.disconnect()
        except Exception as error:  # noqa: BLE001  one bug must not end the following
            heard = False
            self._book.problem = f"{type(error).__name__}: {error}"
            LOG.exception("following the rules failed; it goes on")
            self._wire.disconnect()
        self.connected = False
        return heard

    def _note(self, error: WireError, *, heard: bool) -> None:
        if self._closing.is_set() or not self._may_go.is_set():
            return
        if heard and error.code == _ENDED:
            return
        self.failures += 1
        self._book.problem = str(error)
        if self._failed != error.code:
            self._failed = error.code
            LOG.warning("the service's rules cannot be followed, those before go on: %s", error)

    def _pause(self, attempt: int) -> None:
        self._stirred.wait(pause_s(self._settings, self._system, attempt))

    def _look(self) -> None:
        period_s = min(self._settings.stale_after_s / _LOOKS_A_PERIOD, _MOST_BETWEEN_LOOKS_S)
        while not self._closing.wait(period_s):
            self._book.look()
