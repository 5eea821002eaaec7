"""Fetches the id lists that the rules name, in a thread of its own."""

from __future__ import annotations

import threading

from touchstone_events.system import System

from touchstone_assignment.local.backoff import pause_s
from touchstone_assignment.local.kept_rules import RefusedError
from touchstone_assignment.local.rule_book import RuleBook
from touchstone_assignment.local.settings import Settings
from touchstone_assignment.local.status import LOG
from touchstone_assignment.local.wire import Wire, WireError


class ListFetcher:
    """Tries again what does not come, later and later. Rules neither wait for it nor end by it."""

    def __init__(
        self,
        book: RuleBook,
        wire: Wire,
        settings: Settings,
        system: System,
        may_go: threading.Event,
    ) -> None:
        self.problem = ""
        self.idle = threading.Event()
        """Set while no call is under way: a child may be made."""
        self.idle.set()
        self._book = book
        self._wire = wire
        self._settings = settings
        self._system = system
        self._may_go = may_go
        self._closing = False
        self._wanted = threading.Event()
        self._followed = ""
        self._said: set[str] = set()
        """The lists whose failure was logged, so that each is once."""

    def follow(self, digest: str) -> None:
        """These rules are in force now. Other ones are looked at without waiting."""
        if digest != self._followed:
            self._followed = digest
            self._wanted.set()

    def close(self) -> None:
        """End `run` after the call that is under way."""
        self._closing = True
        self._wanted.set()

    def run(self) -> None:
        """What the thread does, until it is closed."""
        attempt = 0
        while not self._closing:
            self._may_go.wait()
            self.idle.clear()
            # Asked again: who makes a child looks whether we are idle after forbidding to go.
            well = self._may_go.is_set() and self._round()
            self.idle.set()
            attempt = 0 if well else attempt + 1
            self._wanted.wait(None if well else pause_s(self._settings, self._system, attempt))
            self._wanted.clear()

    def _round(self) -> bool:
        """Everything that is missing, once. Whether all of it is there."""
        try:
            return self._fetch()
        except Exception as error:  # noqa: BLE001  one bug must not end the fetching
            self.problem = f"{type(error).__name__}: {error}"
            LOG.exception("fetching id lists failed; it is tried again")
            return False

    def _fetch(self) -> bool:
        book, rules = self._book, self._book.rules
        if rules is None:
            return True
        problem = ""
        missing = book.lists.missing(rules.lists)
        if book.lists.at_hand.keys() - rules.at_hand:
            book.with_lists()
        for digest in missing:
            # Other rules may need other lists.
            if self._closing or not self._may_go.is_set() or book.digest != rules.digest:
                return False
            try:
                book.lists.put(digest, self._wire.id_list(digest))
            except (WireError, RefusedError) as error:
                problem = f"the id list {digest} did not come: {error}"
                self._note(digest, problem)
                continue
            self._said.discard(digest)
            book.with_lists()
        book.lists.keep_only(rules.lists)
        self._said.intersection_update(missing)
        self.problem = problem
        return not problem

    def _note(self, digest: str, problem: str) -> None:
        if self._closing or not self._may_go.is_set():
            return
        self.problem = problem
        if digest not in self._said:
            self._said.add(digest)
            LOG.warning("%s; it is tried again", problem)
