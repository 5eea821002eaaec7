"""The rules in force, and how old they are."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from touchstone_events.system import System

from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.local import kept_rules
from touchstone_assignment.local.contract import contract
from touchstone_assignment.local.id_lists import IdLists, of
from touchstone_assignment.local.kept_rules import Kept, RefusedError
from touchstone_assignment.local.rules import Rules, changed_experiments, rules_of
from touchstone_assignment.local.settings import Settings
from touchstone_assignment.local.status import LOG, Change, Kind

KNOWN_FORMAT = 1
_REWRITE_S = 600.0


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """When the rules were last known to be the newest."""

    monotonic_s: float
    wall_s: float
    service_s: float
    """As the service said it, whatever our clock says."""


class RuleBook:
    """Holds one set of rules at a time; who reads sees one of them whole.

    The thread that follows the service changes it, and whoever starts that thread before; the one
    that fetches id lists has the same rules compiled again.
    """

    def __init__(self, settings: Settings, system: System, tell: Callable[[Change], None]) -> None:
        self.rules: Rules | None = None
        self.from_disk = False
        self.refused = 0
        self.problem = ""
        self.lists = IdLists(settings.folder)
        self._settings = settings
        self._system = system
        self._tell = tell
        self._confirmed: _Confirmed | None = None
        self._written_s = 0.0
        self._said_stale = False
        self._said_refused = ""
        self._looking = threading.Lock()
        self._changing = threading.Lock()

    @property
    def digest(self) -> str:
        """What the service calls the rules; empty when there are none."""
        return self.rules.digest if self.rules is not None else ""

    @property
    def age_s(self) -> float | None:
        """Seconds since the rules were last known to be the newest."""
        confirmed = self._confirmed
        if confirmed is None or self.rules is None:
            return None
        return max(0.0, self._system.monotonic() - confirmed.monotonic_s)

    @property
    def stale(self) -> bool:
        """Whether that is too long ago, or there are no rules."""
        age_s = self.age_s
        return age_s is None or age_s > self._settings.stale_after_s

    def load(self) -> None:
        """The rules of the disk, where there are none yet. A file that is not right is left out."""
        path = self._path
        if path is None or self.rules is not None:
            return
        try:
            kept = kept_rules.read(path, self._settings.project)
            if kept is None:
                return
            self._take(kept.ruleset, hashlib.sha256(kept.ruleset).hexdigest())
        except (OSError, RefusedError) as error:
            self.refuse(error)
            return
        self.from_disk = True
        self._confirm(kept.confirmed_s, kept.service_s)
        self._written_s = kept.confirmed_s
        self._announce(None)
        self.look()

    def receive(self, response: Any) -> None:
        """What WatchConfig sent. RefusedError when the rules in it are not to be taken."""
        said_s = response.confirm_time.seconds + response.confirm_time.nanos / 1e9
        before, taken = self.rules, False
        if response.ruleset:
            digest = hashlib.sha256(response.ruleset).hexdigest()
            if digest != response.digest:
                raise RefusedError("the rules differ from their digest: they arrived damaged")
            if digest != self.digest:
                self._refuse_older(response.config_version, said_s)
                before, taken = self._take(response.ruleset, digest), True
        elif before is None or response.digest != before.digest:
            raise RefusedError("the service confirmed rules that were never received")
        self.from_disk = False
        self.problem = ""
        self._confirm(said_s, said_s)
        self._write(forced=taken)
        if taken:
            self._announce(before)
        self.look()

    def refuse(self, error: Exception) -> None:
        """Counts rules that were not taken, and logs them once; those before go on."""
        self.refused += 1
        if self._said_refused != str(error):
            self._said_refused = str(error)
            LOG.error("rules were refused, those before go on: %s", error)
        self.problem = str(error)

    def with_lists(self) -> None:
        """The same rules again, with the id lists that came meanwhile."""
        with self._changing:
            if self.rules is not None:
                self.rules = self._compiled(self.rules.ruleset, self.rules.digest, None)

    def look(self) -> None:
        """Says so once when the rules have become stale, or fresh again."""
        with self._looking:
            rules, stale = self.rules, self.stale
            if rules is None or stale is self._said_stale:
                return
            self._said_stale = stale
        self._tell(Change(Kind.STALE if stale else Kind.FRESH, rules.config_version))

    def after_fork(self) -> None:
        """In a child: what another thread of the parent held is held by nobody any more."""
        self._looking = threading.Lock()
        self._changing = threading.Lock()

    def _refuse_older(self, version: int, service_s: float) -> None:
        rules, confirmed = self.rules, self._confirmed
        if rules is None or confirmed is None:
            return
        if kept_rules.outdated(version, service_s, rules.config_version, confirmed.service_s):
            raise RefusedError(
                f"the service sent version {version} of the rules, and version "
                f"{rules.config_version} was confirmed later: the replica lags, or has not "
                "reached its database since its start"
            )

    def _take(self, ruleset: bytes, digest: str) -> Rules | None:
        """Put them in force. Gives those before."""
        with self._changing:
            before = self.rules
            evaluator = None if before is None else before.evaluator
            self.rules = self._compiled(ruleset, digest, evaluator)
        return before

    def _compiled(self, ruleset: bytes, digest: str, before: Evaluator | None) -> Rules:
        message, lists = self._parsed(ruleset), self.lists.at_hand
        try:
            evaluator = compile_ruleset(message, lambda name: of(lists, name), before)
            return rules_of(message, evaluator, ruleset, digest, frozenset(lists))
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise RefusedError(f"the rules cannot be compiled: {error}") from error

    def _parsed(self, ruleset: bytes) -> Any:
        try:
            message = contract().ruleset.FromString(ruleset)
        except DecodeError as error:
            raise RefusedError(f"the rules cannot be read: {error}") from error
        if message.format > KNOWN_FORMAT:
            raise RefusedError(
                f"the rules have format {message.format}; this version of the client knows "
                f"{KNOWN_FORMAT}: install a newer one"
            )
        if message.project != self._settings.project:
            raise RefusedError(
                f"the rules are of project {message.project!r}, the settings say "
                f"{self._settings.project!r}: use a key of that project"
            )
        return message

    def _confirm(self, wall_s: float, service_s: float) -> None:
        now_s = self._system.time_ns() / 1e9
        # A clock that differs from the service's must not make rules younger than they are.
        age_s = max(0.0, now_s - wall_s)
        monotonic_s = self._system.monotonic() - age_s
        self._confirmed = _Confirmed(monotonic_s, min(wall_s, now_s), service_s)

    def _announce(self, before: Rules | None) -> None:
        rules = self.rules
        assert rules is not None
        if before is None:
            self._tell(Change(Kind.READY, rules.config_version))
        else:
            changed = changed_experiments(before, rules)
            self._tell(Change(Kind.CHANGED, rules.config_version, changed))

    @property
    def _path(self) -> Path | None:
        folder = self._settings.folder
        return None if folder is None else kept_rules.path_of(folder, self._settings.project)

    def _write(self, *, forced: bool) -> None:
        path, rules, confirmed = self._path, self.rules, self._confirmed
        if path is None or rules is None or confirmed is None:
            return
        if not forced and confirmed.wall_s - self._written_s < _REWRITE_S:
            return
        try:
            if not self._newer_kept(path, rules, confirmed):
                kept = Kept(
                    rules.ruleset, rules.config_version, confirmed.wall_s, confirmed.service_s
                )
                kept_rules.write(path, self._settings.project, kept)
        except OSError as error:
            # The rules in memory decide all the same; the next change tries again.
            LOG.error("the rules cannot be kept in %s: %s", path, error)
            self.problem = f"the rules cannot be kept: {error}"
            return
        self._written_s = confirmed.wall_s

    def _newer_kept(self, path: Path, rules: Rules, confirmed: _Confirmed) -> bool:
        """Whether another process that shares the folder has put newer rules there. OSError."""
        try:
            there = kept_rules.read(path, self._settings.project)
        except RefusedError:
            return False
        return there is not None and kept_rules.outdated(
            rules.config_version, confirmed.service_s, there.config_version, there.service_s
        )
