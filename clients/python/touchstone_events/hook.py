"""OpenFeature evaluations as exposures."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from openfeature.flag_evaluation import FlagEvaluationDetails, FlagValueType, Reason
from openfeature.hook import Hook, HookContext, HookHints

from touchstone_events.events import Exposure, Unit
from touchstone_events.sender import EventSender
from touchstone_events.stats import LOG
from touchstone_events.system import Machine, System

_EXPERIMENT = re.compile(r"[a-z][a-z0-9-]{0,62}")
Key = tuple[str, str, str]


def same_name(flag_key: str) -> str | None:
    """The flag's key, where it can be the id of an experiment."""
    return flag_key if _EXPERIMENT.fullmatch(flag_key) else None


@dataclass(frozen=True, slots=True)
class ExposureRule:
    """Which evaluations are exposures, and what they say."""

    unit_type: str = "user"
    """The kind of id that the targeting key is."""
    reasons: frozenset[str] = frozenset({Reason.SPLIT, Reason.TARGETING_MATCH})
    """The reasons that mean that a variant was chosen for the unit."""
    experiment_of: Callable[[str], str | None] = same_name
    """From a flag's key to the experiment; None where the flag is no experiment."""
    repeat_s: float = 3600.0
    """How long the same unit in the same variant is not sent again."""
    remembered: int = 50_000
    """How many of those are remembered; the least recently seen go first."""
    version_key: str = "configVersion"
    """The flag metadata that holds the configuration version, a whole number."""
    provider_version: str = ""
    """Stands behind the provider's name in the evaluator."""


class ExposureHook(Hook):
    """Sends an exposure when a variant was chosen for the unit. It never fails an evaluation.

    An evaluation counts when its reason is one of the rule's, and it has a variant and a targeting
    key. Add the hook to the clients that *show* the variant: an evaluation elsewhere is none.
    """

    def __init__(
        self,
        sender: EventSender,
        rule: ExposureRule | None = None,
        *,
        system: System | None = None,
    ) -> None:
        self._sender = sender
        self._rule = rule or ExposureRule()
        self._seen = Recent(self._rule.remembered, self._rule.repeat_s)
        self._monotonic = (system or Machine()).monotonic
        self._failed = False

    def after(
        self,
        hook_context: HookContext,
        details: FlagEvaluationDetails[FlagValueType],
        hints: HookHints,  # noqa: ARG002  OpenFeature calls it by these names
    ) -> None:
        """Called by OpenFeature when a flag was evaluated without an error."""
        try:
            self._expose(hook_context, details)
        except Exception:  # noqa: BLE001  a product's rule may raise anything
            # What a hook raises here turns the evaluation into the default value.
            if not self._failed:
                self._failed = True
                LOG.exception("an evaluation was not made an exposure; told once")

    def _expose(self, context: HookContext, details: FlagEvaluationDetails[FlagValueType]) -> None:
        rule = self._rule
        unit_id, variant = context.evaluation_context.targeting_key, details.variant
        if not unit_id or not variant or details.reason not in rule.reasons:
            return
        experiment = rule.experiment_of(details.flag_key)
        if experiment is None:
            return
        key = (unit_id, experiment, variant)
        now = self._monotonic()
        if not self._seen.add(key, now):
            return
        exposure = Exposure(
            experiment,
            variant,
            config_version(details.flag_metadata.get(rule.version_key)),
            str(details.reason),
            self._evaluator(context),
        )
        if not self._sender.track(Unit(rule.unit_type, unit_id), exposure):
            self._seen.forget(key)

    def _evaluator(self, context: HookContext) -> str:
        metadata = context.provider_metadata
        name = metadata.name if metadata is not None else ""
        version = self._rule.provider_version
        return f"{name}/{version}" if version else name


class Recent:
    """The keys that were added lately. Safe to use from several threads."""

    def __init__(self, most: int, period_s: float) -> None:
        self._most = most
        self._period_s = period_s
        self._lock = threading.Lock()
        self._added: OrderedDict[Key, float] = OrderedDict()

    def add(self, key: Key, now: float) -> bool:
        """False when the key was added within the period; it then counts as used again."""
        with self._lock:
            before = self._added.get(key)
            if before is not None:
                self._added.move_to_end(key)
                if now - before < self._period_s:
                    return False
            self._added[key] = now
            if len(self._added) > self._most:
                self._added.popitem(last=False)
            return True

    def forget(self, key: Key) -> None:
        """As if it had not been added."""
        with self._lock:
            self._added.pop(key, None)


def config_version(value: object) -> int:
    """A version as flag metadata holds it, perhaps as text or as a float; 0 when it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return int(value) if whole and 0 <= value < 1 << 63 else 0  # type: ignore[operator, call-overload]
