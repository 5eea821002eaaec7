"""Correct the credit of a report by experiments."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.attribution.application.calibration_links import CalibrationLink
from services.attribution.application.calibration_tests import (
    CalibrationSources,
    LinkedTest,
    Tested,
    linked_tests,
)
from services.attribution.application.questions import Question
from services.attribution.domain.calibration import (
    Calibration,
    Incremental,
    Kappa,
    calibrate,
    incremental_by,
)
from services.attribution.domain.conflicts import (
    Conflict,
    Finding,
    kappa_findings,
    lift_test_findings,
    sum_findings,
)
from services.attribution.domain.economics import Figure, Undefined, cost_per, over_cost
from services.attribution.domain.lift import Cell, Estimate, LiftTest, Measured, Target, measure

ALPHA = 0.05
CREDITED_WHERE_OFF = 0.05
"""From this part of the credit where a channel was on it is worth saying that it was not off."""


class Untested(enum.Enum):
    """What becomes of channels without a test."""

    POOLED = "pooled"
    UNCALIBRATED = "uncalibrated"


class Basis(enum.Enum):
    """What a kappa rests on."""

    TESTED = "tested"
    POOLED = "pooled"
    OF_CONVERSIONS = "of_conversions"


@dataclass(frozen=True, slots=True)
class ReportedChannel:
    """What one result of the report says of one channel. Where `cost_incomplete` it cost at least
    `cost`. `mixed` says that values of several currencies were added up.
    """

    channel: str
    conversions: float
    value: float
    cost: Figure
    cost_incomplete: bool = False
    mixed: bool = False

    def over_cost(self, value: float) -> Figure:
        """A value of the channel over what it cost."""
        return over_cost(Undefined.MIXED_CURRENCIES if self.mixed else value, self.cost)


@dataclass(frozen=True, slots=True)
class ReportedResult:
    """One result of the report; the channels of one that is not additive sum to more."""

    additive: bool
    channels: tuple[ReportedChannel, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """A report as far as calibration needs it: its question, its results, its time."""

    question: Question
    results: tuple[ReportedResult, ...]
    conversions: float
    units: int

    @property
    def channels(self) -> frozenset[str]:
        """What is credited in it."""
        return frozenset(each.channel for result in self.results for each in result.channels)


@dataclass(frozen=True, slots=True)
class CalibrateReport:
    """What to calibrate, with which links; at the report's cut where `as_of` is empty."""

    reported: Reported
    links: tuple[CalibrationLink, ...]
    as_of: str = ""
    untested: Untested = Untested.POOLED
    alpha: float = ALPHA


@dataclass(frozen=True, slots=True)
class BelievedKappa:
    """A kappa and what it rests on."""

    kappa: Kappa
    basis: Basis


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the ends of its interval."""

    value: Figure
    low: Figure
    high: Figure


@dataclass(frozen=True, slots=True)
class CalibratedChannel:
    """A channel as credited and, where it is calibrated, as corrected."""

    reported: ReportedChannel
    kappa: BelievedKappa | None = None
    value_kappa: BelievedKappa | None = None
    conversions: Incremental | None = None
    value: Incremental | None = None
    return_on_spend: Interval | None = None


@dataclass(frozen=True, slots=True)
class MeasuredKappa:
    """What one link says of one result's credit."""

    link: CalibrationLink
    test: LiftTest
    by_value: bool
    credited_on: float
    credited_off: float
    measured: Measured | Undefined


@dataclass(frozen=True, slots=True)
class CalibratedResult:
    """One result, corrected."""

    calibration: Calibration
    channels: tuple[CalibratedChannel, ...]
    tests: tuple[MeasuredKappa, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class CalibratedReport:
    """Every result in the order of the report, what links gave, and what does not fit."""

    results: tuple[CalibratedResult, ...]
    tested: Tested
    findings: tuple[Finding, ...]


def calibrate_report(command: CalibrateReport, sources: CalibrationSources) -> CalibratedReport:
    """Set lifts against the credit of the same units, and correct every result by them.

    UNAVAILABLE when results cannot be asked; PERMISSION_DENIED when the caller may not.
    """
    reported = command.reported
    question = reported.question
    if command.as_of:
        question = replace(question, as_of=command.as_of)
    tested = linked_tests(question, command.links, reported.channels, sources)
    used = [test for test in tested.tests if test.used]
    findings = [finding for test in tested.tests for finding in test.findings]
    if used:
        report = _cell_of(reported, used)
        cells = [test.test(0) for test in used]
        findings += [
            finding
            for finding in lift_test_findings(cells, report)
            if finding.conflict is not Conflict.NOTHING_ATTRIBUTED
        ]
    results = tuple(
        _calibrated(command, index, result, used) for index, result in enumerate(reported.results)
    )
    return CalibratedReport(results, tested, tuple(findings))


def _cell_of(reported: Reported, used: Sequence[LinkedTest]) -> Cell:
    """The time of the report; an open end reaches as far as the tests do."""
    cells = [test.credited.cell for test in used if test.credited and test.credited.cell]
    definition = reported.question.definition
    first_us = min(cell.start_us for cell in cells)
    last_us = max(cell.end_us for cell in cells)
    start_us = first_us if definition.start_us is None else definition.start_us
    end_us = last_us if definition.end_us is None else definition.end_us
    return Cell(start_us, max(end_us, start_us + 1), max(reported.units, 1))


def _calibrated(
    command: CalibrateReport, index: int, result: ReportedResult, used: Sequence[LinkedTest]
) -> CalibratedResult:
    tests = tuple(_tested(test, index, command.alpha) for test in used)
    counted = [each.test for each in tests if not each.by_value]
    valued = [each.test for each in tests if each.by_value]
    beliefs = Beliefs(
        calibrate(counted, alpha=command.alpha),
        calibrate(valued, alpha=command.alpha),
        command.untested,
    )
    channels = tuple(_channel(each, beliefs, command.alpha) for each in result.channels)
    findings = [finding for each in tests for finding in _of_test(each)]
    for calibration in (beliefs.conversions, beliefs.value):
        findings += [
            finding
            for finding in kappa_findings(calibration)
            if finding.conflict is not Conflict.NOT_TESTED
        ]
    findings += [finding for channel in channels for finding in _of_channel(channel)]
    rows = [each.conversions for each in channels if each.conversions is not None]
    if result.additive:
        findings += sum_findings(rows, (), command.reported.conversions)
    return CalibratedResult(beliefs.conversions, channels, tests, tuple(findings))


def _tested(linked: LinkedTest, index: int, alpha: float) -> MeasuredKappa:
    test, (on, off) = linked.test(index), linked.credit(index)
    assert linked.lift is not None
    by_value = linked.lift.events.by_value
    return MeasuredKappa(linked.link, test, by_value, on, off, measure(test, alpha))


def _of_test(tested: MeasuredKappa) -> list[Finding]:
    target, names = tested.test.target, (tested.link.name,)
    if tested.test.outcome.attributed.value <= 0:
        why = "no more was credited where it was on than where it was off: its lift of "
        why = f"{why}{tested.test.incremental.value:.6g} stands alone, without a kappa"
        return [Finding(Conflict.NOTHING_ATTRIBUTED, target, names, why, left_out=True)]
    if tested.credited_off > CREDITED_WHERE_OFF * tested.credited_on:
        part = tested.credited_off / tested.credited_on
        why = f"where it was off it was credited {part:.0%} as much as where it was on, by touches "
        why = f"{why}from before the exposure or in spite of the switch; kappa is of the difference"
        return [Finding(Conflict.CREDITED_WHERE_OFF, target, names, why)]
    return []


@dataclass(frozen=True, slots=True)
class Beliefs:
    """The kappas of conversions and of values, and what becomes of untested channels."""

    conversions: Calibration
    value: Calibration
    untested: Untested

    def of_conversions(self, target: Target) -> BelievedKappa | None:
        """Kappa of the channel's conversions, None when it stays uncalibrated."""
        return self._own(self.conversions, target) or self._pooled(self.conversions, target)

    def of_value(self, target: Target) -> BelievedKappa | None:
        """Kappa of the channel's value: its own tests come first, those of others last."""
        own = self._own(self.value, target)
        if own is not None:
            return own
        counted = self._own(self.conversions, target)
        if counted is None:
            return self._pooled(self.value, target) or self._pooled(self.conversions, target)
        return replace(counted, basis=Basis.OF_CONVERSIONS)

    def _own(self, calibration: Calibration, target: Target) -> BelievedKappa | None:
        kappa = calibration.of(target)
        return None if kappa.pooled is None else BelievedKappa(kappa, Basis.TESTED)

    def _pooled(self, calibration: Calibration, target: Target) -> BelievedKappa | None:
        if self.untested is Untested.UNCALIBRATED:
            return None
        kappa = calibration.expected(target)
        return None if kappa is None else BelievedKappa(kappa, Basis.POOLED)


def _channel(reported: ReportedChannel, beliefs: Beliefs, alpha: float) -> CalibratedChannel:
    target = Target(reported.channel)
    kappa, value_kappa = beliefs.of_conversions(target), beliefs.of_value(target)
    conversions, value, back = None, None, None
    if kappa is not None:
        credit = Estimate(reported.conversions, 0.0)
        conversions = incremental_by(kappa.kappa, credit, reported.cost, alpha)
    if value_kappa is not None:
        credit = Estimate(reported.value, 0.0)
        value = incremental_by(value_kappa.kappa, credit, reported.cost, alpha)
        ends = (value.incremental.value, value.low, value.high)
        back = Interval(*map(reported.over_cost, ends))
    return CalibratedChannel(reported, kappa, value_kappa, conversions, value, back)


def _of_channel(channel: CalibratedChannel) -> list[Finding]:
    found, target = [], Target(channel.reported.channel)
    if channel.kappa is None:
        why = "no usable test: it stays uncalibrated"
        found.append(Finding(Conflict.NOT_TESTED, target, (), why))
    elif channel.kappa.basis is Basis.POOLED:
        why = "no usable test: kappa is what tests of other channels lead to expect"
        found.append(Finding(Conflict.NOT_TESTED, target, (), why))
    if channel.reported.cost_incomplete:
        why = "some of its touches came without a cost: it cost at least what is said"
        found.append(Finding(Conflict.COST_INCOMPLETE, target, (), why))
    return found


def attributed_ratios(channel: ReportedChannel) -> tuple[Figure, Figure]:
    """Cost over attributed conversions, and attributed value over cost."""
    return cost_per(channel.cost, channel.conversions), channel.over_cost(channel.value)
