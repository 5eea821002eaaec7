"""What a product calls."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from touchstone_events.settings import Service
from touchstone_events.system import Machine, System

from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.decision import Reason
from touchstone_assignment.local.answers import Answer, ParameterAnswer, Unanswered
from touchstone_assignment.local.asking import Asker
from touchstone_assignment.local.contract import contract
from touchstone_assignment.local.follower import Follower
from touchstone_assignment.local.forks import follow_forks
from touchstone_assignment.local.rule_book import RuleBook
from touchstone_assignment.local.rules import Rules
from touchstone_assignment.local.settings import Settings
from touchstone_assignment.local.status import LOG, Change, Listener, Status, tell
from touchstone_assignment.local.unit_ids import taken_subject
from touchstone_assignment.local.wire import GrpcWire, Wire

_NOTHING: Mapping[str, object] = MappingProxyType({})
_FORK_WAIT_S = 1.0
_LOOK_EVERY_S = 0.01
# What an id or an attribute of the wrong type or form ends in.
_BAD = (ValueError, TypeError, AttributeError)


class LocalAssignment:
    """Decides from rules in memory, which threads of its own keep new. Safe to use from any thread.

    Nothing is opened before `start`, `with`, or the first question. No question waits for the
    network or the disk (but for `Settings.ask_server`, and the first one for the file of the last
    rules), and none raises for what is asked: an answer says why it is what it is.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        *,
        system: System | None = None,
        wire: Callable[[], Wire] | None = None,
    ) -> None:
        self.settings = settings
        self._system = system or Machine()
        self._time_ns = self._system.time_ns
        self._connect = wire or (lambda: GrpcWire(service, settings))
        self._listeners: tuple[Listener, ...] = ()
        self._closed = False
        self._book = RuleBook(settings, self._system, self._tell)
        self._build()
        contract()

    def _build(self) -> None:
        self._wire = self._connect()
        self._asker = Asker(self._wire, allowed=self.settings.ask_server)
        self._follower = Follower(self._book, self._wire, self.settings, self._system)
        self._starting = threading.Lock()
        self._started = False

    @property
    def ready(self) -> bool:
        """Whether there are rules to decide by, however old."""
        return self._book.rules is not None

    @property
    def evaluator(self) -> Evaluator | None:
        """What decides by the newest rules, as for many units at once; None without rules.

        It knows nothing of what only the server can decide.
        """
        rules = self._book.rules
        return None if rules is None else rules.evaluator

    def start(self) -> None:
        """Read the last rules of the disk, then follow the service in the background."""
        with self._starting:
            if self._started or self._closed:
                return
            self._started = True
            self._book.load()
            try:
                self._wire.prepare()
            except (OSError, ValueError) as error:
                # The file of a certificate, perhaps; it is tried again and again.
                LOG.error("the service cannot be reached: %s", error)
            follow_forks(self)
            try:
                self._follower.start()
            except RuntimeError as error:
                LOG.error("the rules cannot be followed: %s", error)
                return
            # A thread that gRPC waits in must not hold up the end of the interpreter.
            atexit.unregister(self.close)
            atexit.register(self.close)

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until there are rules. False when there are none in time."""
        self.start()
        end = time.monotonic() + timeout_s
        while not self.ready and time.monotonic() < end and not self._closed:
            self._follower.heard.wait(_LOOK_EVERY_S)
        return self.ready

    def decide(
        self,
        experiment: str,
        ids: Mapping[str, str],
        attributes: Mapping[str, object] = _NOTHING,
        *,
        default: object = None,
    ) -> Answer:
        """What the unit with these ids, by type, gets in an experiment."""
        rules = self._book.rules if self._started else self._first_rules()
        if rules is None:
            return Answer(None, default, Unanswered.NOT_READY)
        decide = rules.direct.get(experiment)
        if decide is None:
            return self._decide_otherwise(rules, experiment, (ids, attributes), default)
        try:
            decision = decide(taken_subject(ids, attributes, 0.0, rules.unit_types))
        except _BAD as error:
            return Answer(None, default, Unanswered.INVALID, detail=str(error))
        variant = decision.variant
        # As Answer(...) makes it, in two thirds of the time.
        return tuple.__new__(
            Answer,
            (
                variant,
                default if variant is None else decision.value,
                decision.reason,
                rules.config_version,
                decision.propensity,
                decision.because_of,
                decision.tainted,
                False,
                "",
            ),
        )

    def _decide_otherwise(
        self,
        rules: Rules,
        experiment: str,
        unit: tuple[Mapping[str, str], Mapping[str, object]],
        default: object,
    ) -> Answer:
        """What is unknown, or needs the service or the time."""
        found = rules.evaluator.experiments.get(experiment)
        if found is None:
            return Answer(None, default, Reason.UNKNOWN_EXPERIMENT, rules.config_version)
        try:
            subject = taken_subject(*unit, self._time_ns() / 1e9, rules.unit_types)
            if experiment in rules.server_only:
                return self._asker.decide(found.rule, subject, default)
            decision = found.decide(subject)
        except _BAD as error:
            return Answer(None, default, Unanswered.INVALID, detail=str(error))
        return Answer(
            decision.variant,
            default if decision.variant is None else decision.value,
            decision.reason,
            rules.config_version,
            decision.propensity,
            decision.because_of,
            decision.tainted,
        )

    def parameters(
        self,
        ids: Mapping[str, str],
        defaults: Mapping[str, object],
        attributes: Mapping[str, object] = _NOTHING,
    ) -> dict[str, ParameterAnswer]:
        """The values of the parameters that `defaults` names, whichever experiments set them."""
        rules = self._book.rules if self._started else self._first_rules()
        if rules is None:
            return _defaults(defaults, Unanswered.NOT_READY)
        unknown = defaults.keys() - rules.evaluator.parameter_rules.keys()
        asked = defaults.keys() & rules.server_only_parameters
        try:
            subject = taken_subject(ids, attributes, self._time_ns() / 1e9, rules.unit_types)
            here = [key for key in defaults if key not in asked and key not in unknown]
            found = rules.evaluator.parameters(subject, here) if here else {}
            answers = {
                key: ParameterAnswer(
                    value.value, value.experiment, value.variant, None, rules.config_version
                )
                for key, value in found.items()
            }
            answers |= self._asker.parameters(asked, subject, defaults)
        except _BAD:
            return _defaults(defaults, Unanswered.INVALID)
        return {
            key: answers.get(key, ParameterAnswer(value, config_version=rules.config_version))
            for key, value in defaults.items()
        }

    def held_out(
        self, ids: Mapping[str, str], attributes: Mapping[str, object] = _NOTHING
    ) -> tuple[str, ...] | None:
        """The holdouts that keep the unit out; None when there are no rules, or an id is none."""
        rules = self._book.rules if self._started else self._first_rules()
        if rules is None:
            return None
        try:
            now_s = self._time_ns() / 1e9
            subject = taken_subject(ids, attributes, now_s, rules.unit_types)
            return rules.evaluator.held_out(subject)
        except _BAD:
            return None

    def member(
        self, audience: str, ids: Mapping[str, str], attributes: Mapping[str, object] = _NOTHING
    ) -> bool | None:
        """Whether the unit is in an audience; None when that is not known here.

        That is so without rules, for an audience that there is not, and for an id list that was
        not fetched (`Settings.id_lists`).
        """
        rules = self._book.rules if self._started else self._first_rules()
        if rules is None or audience not in rules.lists:
            return None
        if not rules.lists[audience] <= rules.at_hand:
            return None
        try:
            subject = taken_subject(ids, attributes, self._time_ns() / 1e9, rules.unit_types)
            return rules.evaluator.member(audience, subject)
        except _BAD:
            return None

    @property
    def rules(self) -> Rules | None:
        """What decides at this moment; None when nothing does. It does not change any more."""
        return self._book.rules

    def status(self) -> Status:
        """What decides at this moment, and how old it is."""
        book, rules = self._book, self._book.rules
        return Status(
            ready=rules is not None,
            stale=book.stale,
            config_version=rules.config_version if rules is not None else 0,
            age_s=book.age_s,
            connected=self._follower.connected,
            from_disk=book.from_disk,
            refused=book.refused,
            failures=self._follower.failures,
            problem=book.problem or self._follower.list_problem,
        )

    def listen(self, listener: Listener) -> None:
        """Tell it of every change from now on, from a thread of this object."""
        self._listeners = (*self._listeners, listener)

    def close(self) -> bool:
        """End the threads and the connection; the last rules go on deciding. May be called again.

        False when they did not end within `Settings.close_s`.
        """
        self._closed = True
        atexit.unregister(self.close)
        if not self._started:
            return True
        done = self._follower.close(self.settings.close_s)
        if not done:
            LOG.error("the rules' threads did not end in %g s", self.settings.close_s)
        return done

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _first_rules(self) -> Rules | None:
        self.start()
        return self._book.rules

    def _tell(self, change: Change) -> None:
        tell(self._listeners, change)

    def before_fork(self) -> None:
        """A child must not inherit a connection that is in use."""
        if self._started and not self._closed:
            self._follower.park(_FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """The parent connects again."""
        if self._started and not self._closed:
            self._follower.unpark()

    def after_fork_in_child(self) -> None:
        """The child has the rules as they are, and follows by itself from its first question on."""
        # What could not be parked in time must not be torn down by the child.
        self._parents = (self._wire, self._follower)
        self._book.after_fork()
        self._build()


def _defaults(defaults: Mapping[str, object], reason: Unanswered) -> dict[str, ParameterAnswer]:
    return {key: ParameterAnswer(value, reason=reason) for key, value in defaults.items()}
