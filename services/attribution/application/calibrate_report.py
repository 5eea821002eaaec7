"""Correct the credit of a report by experiments."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.attribution.application.calibration_cells import Channels, Groups
from services.attribution.application.calibration_links import CalibrationLink
from services.attribution.application.calibration_measured import (
    Asked,
    MeasuredKappa,
    Together,
    credit_findings,
    measured_tests,
    together_findings,
    told_together,
)
from services.attribution.application.calibration_tests import (
    CalibrationSources,
    LinkedTest,
    Tested,
    groups_of,
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
    joint_findings,
    kappa_findings,
    lift_test_findings,
    sum_findings,
)
from services.attribution.domain.economics import Figure, Undefined, cost_per, over_cost
from services.attribution.domain.lift import Cell, Estimate, Target

ALPHA = 0.05


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
    `cost`. `mixed` says that values of several currencies were added up. `errors` are the standard
    errors of conversions and value as far as the report has them, or else 0.
    """

    channel: str
    conversions: float
    value: float
    cost: Figure
    cost_incomplete: bool = False
    mixed: bool = False
    errors: tuple[float, float] = (0.0, 0.0)

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
    """What to calibrate, with which links; at the report's cut where `as_of` is empty.

    `known` are links that are not used, and yet say what a test switched.
    """

    reported: Reported
    links: tuple[CalibrationLink, ...]
    as_of: str = ""
    untested: Untested = Untested.POOLED
    alpha: float = ALPHA
    known: tuple[CalibrationLink, ...] = ()


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
class CalibratedResult:
    """One result, corrected."""

    calibration: Calibration
    channels: tuple[CalibratedChannel, ...]
    tests: tuple[MeasuredKappa, ...]
    findings: tuple[Finding, ...]
    together: tuple[Together, ...] = ()


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
    tested = linked_tests(question, command.links, reported.channels, sources, command.known)
    used = [test for test in tested.tests if test.used]
    findings = [finding for test in tested.tests for finding in test.findings]
    cell = None
    if used:
        cell = _cell_of(reported, used)
        findings += together_findings(used, tested.switched)
        findings += _between(used, cell)
    same_cut = None if command.as_of else cell
    results = tuple(
        _calibrated(command, place, tested.switched, used, same_cut)
        for place in range(len(reported.results))
    )
    return CalibratedReport(results, tested, tuple(findings))


def _between(used: Sequence[LinkedTest], report: Cell) -> list[Finding]:
    """What is wrong with tests and between them. Those that share their groups are one test."""
    groups = {test.link.name: groups_of(test.link) for test in used}

    def counts(finding: Finding) -> bool:
        if finding.conflict is Conflict.CONCURRENT_TESTS:
            return len({groups[name] for name in finding.experiments}) > 1
        return finding.conflict is not Conflict.NOTHING_ATTRIBUTED

    found = lift_test_findings([test.test(0) for test in used], report)
    return [finding for finding in found if counts(finding)]


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
    command: CalibrateReport,
    place: int,
    switched: Mapping[Groups, Channels],
    used: Sequence[LinkedTest],
    cell: Cell | None,
) -> CalibratedResult:
    result, alpha = command.reported.results[place], command.alpha
    credit = {each.channel: (each.conversions, each.value) for each in result.channels}
    asked = Asked(credit, cell, alpha)
    tests = measured_tests(used, switched, place, asked)
    counted, valued = (
        calibrate(tests.alone[by_value], alpha=alpha, joint=tests.joint[by_value])
        for by_value in (False, True)
    )
    beliefs = Beliefs(counted, valued, command.untested)
    channels = tuple(_channel(each, beliefs, alpha) for each in result.channels)
    findings = [finding for each in tests.kappas for finding in credit_findings(each)]
    for calibration in (counted, valued):
        findings += [
            finding
            for finding in (*kappa_findings(calibration), *joint_findings(calibration))
            if finding.conflict is not Conflict.NOT_TESTED
        ]
    findings += [finding for channel in channels for finding in _of_channel(channel)]
    rows = [each.conversions for each in channels if each.conversions is not None]
    if result.additive:
        findings += sum_findings(rows, command.reported.conversions)
    together = told_together(counted, asked, by_value=False)
    together += told_together(valued, asked, by_value=True)
    return CalibratedResult(counted, channels, tests.kappas, tuple(findings), together)


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
        return None if kappa.tested is None else BelievedKappa(kappa, Basis.TESTED)

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
        credit = Estimate(reported.conversions, _left(kappa) * reported.errors[0])
        conversions = incremental_by(kappa.kappa, credit, reported.cost, alpha)
    if value_kappa is not None:
        credit = Estimate(reported.value, _left(value_kappa) * reported.errors[1])
        value = incremental_by(value_kappa.kappa, credit, reported.cost, alpha)
        ends = (value.incremental.value, value.low, value.high)
        back = Interval(*map(reported.over_cost, ends))
    return CalibratedChannel(reported, kappa, value_kappa, conversions, value, back)


def _left(believed: BelievedKappa) -> float:
    """The part of the error of credit that the tests of the channel do not account for.

    What a test says of its own cell holds for the cell's credit as it is (see `credit_variance`);
    what the prior says holds for the credit that is to be expected. Tests and prior share an error
    of credit e by w e + (1 - w) e, whose first part is left out: w^2 of the variance.
    """
    if believed.basis is Basis.POOLED:
        return 1.0
    return float(np.sqrt(max(1.0 - believed.kappa.weight**2, 0.0)))


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
