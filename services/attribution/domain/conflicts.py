"""Where lift tests, attribution and the report do not fit together, each said as a finding."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

import numpy as np
from scipy import special

from services.attribution.domain.calibration import Calibration, Incremental, Kappa
from services.attribution.domain.lift import Cell, LiftTest, Target

HETEROGENEOUS_P = 0.05
UNITS_TOLERANCE = 0.05
ABOVE_LEVEL = 0.05


class Conflict(Enum):
    """What does not fit."""

    NO_SHARED_WINDOW = "no_shared_window"
    PARTLY_SHARED_WINDOW = "partly_shared_window"
    DIFFERENT_UNITS = "different_units"
    OUTSIDE_REPORT = "outside_report"
    NOTHING_ATTRIBUTED = "nothing_attributed"
    OVERLAPPING_TESTS = "overlapping_tests"
    CONCURRENT_TESTS = "concurrent_tests"
    TESTS_DISAGREE = "tests_disagree"
    MOSTLY_PRIOR = "mostly_prior"
    NOT_TESTED = "not_tested"
    HARMFUL = "harmful"
    SUM_ABOVE_LIFT = "sum_above_lift"
    ABOVE_ALL_CONVERSIONS = "above_all_conversions"
    OTHER_EVENT = "other_event"
    OTHER_KIND = "other_kind"
    OTHER_FILTER = "other_filter"
    OTHER_CREDIT_KEY = "other_credit_key"
    UNKNOWN_CHANNEL = "unknown_channel"
    NO_SHARED_UNITS = "no_shared_units"
    NO_RESULTS = "no_results"
    UNTRUSTED_RESULTS = "untrusted_results"
    COUNTED_ONCE = "counted_once"
    CAPPED = "capped"
    CREDITED_WHERE_OFF = "credited_where_off"
    COST_INCOMPLETE = "cost_incomplete"
    SWITCHED_TOGETHER = "switched_together"
    READ_AT_ONE_LOOK = "read_at_one_look"
    OTHER_CURRENCY = "other_currency"


@dataclass(frozen=True, slots=True)
class Finding:
    """One conflict: what it is about, what it means, and whether a figure was left out for it."""

    conflict: Conflict
    target: Target | None
    experiments: tuple[str, ...]
    message: str
    left_out: bool = False


def lift_test_findings(tests: Sequence[LiftTest], report: Cell) -> tuple[Finding, ...]:
    """Return what is wrong with single tests and between them, in the order of their names.

    `report` is the cell that kappa is applied to.
    """
    ordered = sorted(tests, key=lambda t: (t.target.sort_key(), t.experiment))
    found = [finding for test in ordered for finding in _alone(test, report)]
    for one, other in combinations(ordered, 2):
        if one.experiment != other.experiment and one.tested.shared_us(other.tested):
            found.append(_at_once(one, other))
    return tuple(found)


def _alone(test: LiftTest, report: Cell) -> list[Finding]:
    tested, credited = test.tested, test.credited
    shared = tested.shared_us(credited)
    longest = max(tested.end_us, credited.end_us) - min(tested.start_us, credited.start_us)
    found = []
    if not shared:
        why = "test and attribution share no time, so their ratio means nothing; the test is unused"
        found.append(_about(Conflict.NO_SHARED_WINDOW, test, why, left_out=True))
    elif shared < longest:
        why = f"test and attribution share {shared / longest:.0%} of their time; attribute the cell"
        found.append(_about(Conflict.PARTLY_SHARED_WINDOW, test, f"{why} that was tested"))
    if abs(credited.units - tested.units) > UNITS_TOLERANCE * tested.units:
        why = f"{tested.units} units count for the results and {credited.units} for credit"
        found.append(_about(Conflict.DIFFERENT_UNITS, test, f"{why}; both are taken for each unit"))
    if shared and test.outcome.attributed.value <= 0:
        why = "nothing was attributed in the tested cell: its lift stands alone, without a kappa"
        found.append(_about(Conflict.NOTHING_ATTRIBUTED, test, why, left_out=True))
    if not tested.shared_us(report):
        why = "the test ran outside the time of the report, as if kappa had not changed since"
        found.append(_about(Conflict.OUTSIDE_REPORT, test, why))
    return found


def _about(conflict: Conflict, test: LiftTest, why: str, *, left_out: bool = False) -> Finding:
    return Finding(conflict, test.target, (test.experiment,), why, left_out)


def _at_once(one: LiftTest, other: LiftTest) -> Finding:
    names = (one.experiment, other.experiment)
    if one.target == other.target:
        why = "two tests of one target share time and perhaps units: they count as one, with the"
        why = f"{why} largest standard error that any overlap allows"
        return Finding(Conflict.OVERLAPPING_TESTS, one.target, names, why)
    why = "two targets were tested at once: each lift holds while the other was partly switched"
    return Finding(Conflict.CONCURRENT_TESTS, None, names, f"{why} off, and they need not add up")


def kappa_findings(calibration: Calibration) -> tuple[Finding, ...]:
    """Return what limits the kappas, in their order."""
    return tuple(finding for kappa in calibration.kappas for finding in _limits(kappa))


def _limits(kappa: Kappa) -> list[Finding]:
    names = tuple(name for each in kappa.measured for name in each.experiments)
    if kappa.tested is None:
        why = "no usable test: kappa is what tests of others lead to expect, with a wide interval"
        return [Finding(Conflict.NOT_TESTED, kappa.target, names, why)]
    found = []
    if kappa.heterogeneity_p is not None and kappa.heterogeneity_p < HETEROGENEOUS_P:
        why = f"the tests disagree (p {kappa.heterogeneity_p:.2g}); their spread"
        why = f"{why} {kappa.spread:.2g} is part of the interval"
        found.append(Finding(Conflict.TESTS_DISAGREE, kappa.target, names, why))
    if kappa.weight < 0.5:
        needed = "a larger test" if kappa.together is None else "a test of its own"
        why = f"the tests weigh {kappa.weight:.0%} and the prior the rest: {needed} is needed"
        found.append(Finding(Conflict.MOSTLY_PRIOR, kappa.target, names, why))
    if kappa.high < 0:
        why = "conversions fall where it is shown"
        found.append(Finding(Conflict.HARMFUL, kappa.target, names, why))
    return found


def joint_findings(calibration: Calibration) -> tuple[Finding, ...]:
    """Return where tests of single targets contradict one of all of them together.

    That is where every target of a joint test has tests of its own, and their sum is apart from the
    whole, significantly at one side of 5 %; the tests are taken as independent.
    """
    alone = {kappa.target: kappa for kappa in calibration.kappas}
    found = []
    for each in calibration.joint:
        whole, total, errors = each.measured.kappa, 0.0, [each.measured.kappa.std_err]
        for target, share in each.joint.shares.items():
            own = alone[target]
            if own.pooled is not None:
                total += share * own.pooled.value
                errors += [share * own.pooled.std_err, share * own.spread]
        tested_alone = len(errors) == 1 + 2 * len(each.joint.credits)
        apart = -special.ndtri(ABOVE_LEVEL) * float(np.linalg.norm(errors))
        if not tested_alone or abs(total - whole.value) <= apart:
            continue
        why = f"tests of each alone make up {total:.3g} of the credit, and {whole.value:.3g} was"
        above = total > whole.value
        kind = Conflict.SUM_ABOVE_LIFT if above else Conflict.TESTS_DISAGREE
        why = f"{why} measured of all: "
        why += "they share effects, or a kappa is too high" if above else "they need each other"
        found.append(Finding(kind, None, each.measured.experiments, why))
    return tuple(found)


def sum_findings(rows: Sequence[Incremental], conversions: float) -> tuple[Finding, ...]:
    """Return whether the parts add up to more than there is.

    `conversions` are all of the report, those without a touch too.
    """
    ordered = sorted(rows, key=lambda row: row.target.sort_key())
    total = sum(row.incremental.value for row in ordered)
    if total <= conversions:
        return ()
    why = f"{total:.6g} incremental of {conversions:.6g} conversions: no baseline is left"
    return (Finding(Conflict.ABOVE_ALL_CONVERSIONS, None, (), why),)
