"""What to do with a treatment, and the reasons as data: one rule over all metrics of a test.

Source: Schultzberg, Ankargren and Frånberg (2024), "Risk-aware product decisions in A/B tests
with multiple metrics", arXiv 2402.11609: ship if and only if at least one success metric is
superior, every guardrail is non-inferior, no metric has deteriorated and no check of quality
fails. The rule reads verdicts, not data, so any inference may stand behind them: a fixed
horizon, a sequential test, or thresholds of a posterior.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from touchstone_statistics.family import Role
from touchstone_statistics.gaps import Gap


class Verdict(enum.Enum):
    """What to do with a treatment."""

    SHIP = "ship"
    KEEP_RUNNING = "keep-running"
    STOP = "stop"
    """End the experiment and keep the control: what was hoped for is not there."""
    ROLL_BACK = "roll-back"
    """Take the treatment away: it does harm."""
    CANNOT_TELL = "cannot-tell"
    """The data cannot be trusted, or the experiment ended too small to say anything."""


class Code(enum.Enum):
    """Why a verdict is what it is."""

    SUPERIOR = "superior"
    NON_INFERIOR = "non-inferior"
    DETERIORATED = "deteriorated"
    NOT_SUPERIOR = "not-superior"
    NOT_NON_INFERIOR = "not-non-inferior"
    FUTILE = "futile"
    NOT_AT_HORIZON = "not-at-horizon"
    UNDERPOWERED = "underpowered"
    METRIC_MISSING = "metric-missing"
    NO_SUCCESS_METRIC = "no-success-metric"
    SAMPLE_RATIO_MISMATCH = "sample-ratio-mismatch"
    QUALITY_CHECK_FAILED = "quality-check-failed"


Numbers = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a decision. `metric` is empty where none is meant; a failed check of
    quality has its name there. `numbers` are those of the verdict, by name.
    """

    code: Code
    treatment: str
    metric: str = ""
    numbers: Numbers = ()


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """What the tests of one metric say of one treatment.

    A primary metric is a success metric, a guardrail must be non-inferior, and a secondary
    metric can only stand in the way by deteriorating. `holds` says that the tests may be acted
    on at this look: always for a method that is valid under peeking, for a fixed horizon only
    at its end. `powered` says that the effect (for a guardrail, the margin) that was planned
    for would by now be found with the planned power; it is true where nothing was planned.
    `futile` says that the bound of futility was crossed. `gap` says why there is no test.
    """

    metric: str
    role: Role
    holds: bool
    superior: bool = False
    non_inferior: bool = False
    deteriorated: bool = False
    powered: bool = True
    futile: bool = False
    gap: Gap = Gap.NONE
    numbers: Numbers = ()

    @property
    def readable(self) -> bool:
        return self.holds and self.gap is Gap.NONE


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the experiment stands: whether its planned end is reached, and failed checks."""

    at_end: bool
    sample_ratio_alert: bool = False
    failed_checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on a treatment with all its reasons, those that decide it first."""

    treatment: str
    verdict: Verdict
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Levels:
    """The level of each kind of test and the power each metric needs for the rule to keep its
    word: the levels are of one-sided tests; two-sided tests at them are conservative.
    """

    superiority: float
    non_inferiority: float
    deterioration: float
    power: float


def levels(
    roles: Sequence[Role], treatments: int = 1, alpha: float = 0.05, power: float = 0.8
) -> Levels:
    """Levels at which the rule wrongly ships with probability at most `alpha`.

    Source: Schultzberg et al. (2024), sections 3.3 and 3.4. One superior metric of S is enough,
    so each has alpha / S (union-intersection); all guardrails must pass, so each has the full
    alpha (intersection-union, Berger 1982); all G of them and a success metric must be found,
    so each needs the power 1 - beta / (G + 1). Several treatments share alpha, as shipping any
    one wrongly is an error. The tests for deterioration share one further alpha: harmless
    treatments are rolled back with at most that probability, which also bounds the power that
    they can take from shipping.
    """
    if treatments < 1:
        raise ValueError(f"treatments is {treatments}; it must be at least 1")
    if not (0.0 < alpha <= 0.5 and 0.0 < power < 1.0):
        raise ValueError(
            f"alpha is {alpha} and power {power}; alpha must be above 0 and at most 0.5, "
            "power above 0 and below 1"
        )
    successes = max(sum(role is Role.PRIMARY for role in roles), 1)
    guardrails = sum(role is Role.GUARDRAIL for role in roles)
    share = alpha / treatments
    return Levels(
        superiority=share / successes,
        non_inferiority=share,
        deterioration=share / max(len(roles), 1),
        power=1.0 - (1.0 - power) / (guardrails + 1),
    )


def decide(treatment: str, metrics: Sequence[MetricVerdict], situation: Situation) -> Decision:
    """Apply the rule to one treatment.

    Before the planned end a treatment ships only on tests that hold there. After it, what is
    conclusively absent stops the experiment, and what could not have been found (no data, no
    power) leaves the answer open.
    """
    alerts = _alerts(treatment, situation)
    if alerts:
        return Decision(treatment, Verdict.CANNOT_TELL, alerts)
    harmed = [m for m in metrics if m.readable and m.deteriorated]
    if harmed:
        return Decision(treatment, Verdict.ROLL_BACK, _each(Code.DETERIORATED, treatment, harmed))
    successes = [m for m in metrics if m.role is Role.PRIMARY]
    if not successes:
        reason = Reason(Code.NO_SUCCESS_METRIC, treatment)
        return Decision(treatment, Verdict.CANNOT_TELL, (reason,))
    guardrails = [m for m in metrics if m.role is Role.GUARDRAIL]
    superior = [m for m in successes if m.readable and m.superior]
    open_guardrails = [m for m in guardrails if not (m.readable and m.non_inferior)]
    if superior and not open_guardrails:
        unread = [m for m in metrics if m.role is Role.SECONDARY and m.gap is not Gap.NONE]
        reasons = (
            *_each(Code.SUPERIOR, treatment, superior),
            *_each(Code.NON_INFERIOR, treatment, guardrails),
            *_each(Code.METRIC_MISSING, treatment, unread),
        )
        return Decision(treatment, Verdict.SHIP, reasons)
    wanting = [] if superior else successes
    return _not_shipped(treatment, wanting, open_guardrails, situation)


def _not_shipped(
    treatment: str,
    wanting: Sequence[MetricVerdict],
    open_guardrails: Sequence[MetricVerdict],
    situation: Situation,
) -> Decision:
    """The verdict when the success metrics in `wanting` or a guardrail stand in the way."""
    success = [_obstacle(m, Code.NOT_SUPERIOR, situation) for m in wanting]
    guard = [_obstacle(m, Code.NOT_NON_INFERIOR, situation) for m in open_guardrails]
    final = {Code.FUTILE, Code.NOT_SUPERIOR, Code.NOT_NON_INFERIOR}
    if not situation.at_end:
        final = {Code.FUTILE}
    hopeless = bool(success) and all(code in final for code in success)
    # The reasons that settle it come first.
    found = list(zip([*success, *guard], [*wanting, *open_guardrails], strict=True))
    found.sort(key=lambda pair: pair[0] not in final)
    reasons = tuple(Reason(code, treatment, m.metric, m.numbers) for code, m in found)
    if hopeless or any(code in final for code in guard):
        return Decision(treatment, Verdict.STOP, reasons)
    verdict = Verdict.CANNOT_TELL if situation.at_end else Verdict.KEEP_RUNNING
    return Decision(treatment, verdict, reasons)


def _obstacle(metric: MetricVerdict, absent: Code, situation: Situation) -> Code:
    """Why a metric does not let the treatment ship."""
    if metric.gap is not Gap.NONE:
        return Code.METRIC_MISSING
    if not metric.holds:
        return Code.NOT_AT_HORIZON
    if metric.futile:
        return Code.FUTILE
    if situation.at_end and not metric.powered:
        return Code.UNDERPOWERED
    return absent


def _alerts(treatment: str, situation: Situation) -> tuple[Reason, ...]:
    failed = tuple(
        Reason(Code.QUALITY_CHECK_FAILED, treatment, check) for check in situation.failed_checks
    )
    if situation.sample_ratio_alert:
        return (Reason(Code.SAMPLE_RATIO_MISMATCH, treatment), *failed)
    return failed


def _each(code: Code, treatment: str, metrics: Iterable[MetricVerdict]) -> tuple[Reason, ...]:
    return tuple(Reason(code, treatment, m.metric, m.numbers) for m in metrics)
