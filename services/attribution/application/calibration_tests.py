"""What links say of a report: their lifts, and the credit of the same units beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.attribution.application.calibration_cells import (
    Channels,
    Credit,
    Credited,
    CreditedCells,
    GroupCredit,
    Groups,
)
from services.attribution.application.calibration_links import CalibrationLink
from services.attribution.application.calibration_ports import (
    Exposures,
    Lift,
    LiftSource,
    NoLift,
)
from services.attribution.application.questions import Question
from services.attribution.domain.conflicts import Conflict, Finding
from services.attribution.domain.lift import Estimate, LiftTest, Outcome, Target
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog


@dataclass(frozen=True, slots=True)
class CalibrationSources:
    """Where calibration reads."""

    log: JourneyLog
    limits: AttributionLimits
    exposures: Exposures
    lifts: LiftSource


@dataclass(frozen=True, slots=True)
class LinkedTest:
    """What one link gave: its lift and the credit beside it, as far as they are there.

    `findings` are what is wrong with it for every result; it is used when none leaves it out.
    """

    link: CalibrationLink
    lift: Lift | None = None
    credited: Credited | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def target(self) -> Target:
        """What is calibrated."""
        return Target(self.link.channel)

    @property
    def used(self) -> bool:
        """Whether it can stand behind figures."""
        return not any(finding.left_out for finding in self.findings)

    def credit(self, index: int, channel: str = "") -> tuple[float, float]:
        """What the result credits to the link's channel, or another one of its test, where it was
        on, and where it was off: for as many units each as the lift has where it was on. By value
        where the metric is.
        """
        lift, sides = self._sides(index)
        channel = channel or self.link.channel
        on, off = (
            _of(side.by_channel, channel, by_value=lift.events.by_value) * factor
            for side, factor in sides
        )
        return on, off

    def test(self, index: int, channels: Channels = frozenset()) -> LiftTest:
        """The test of the report's result at this place, of the link's channel or of several."""
        lift, sides = self._sides(index)
        credited = self.credited
        assert credited is not None
        assert credited.cell is not None
        named = channels or frozenset((self.link.channel,))
        pairs = [self.credit(index, channel) for channel in sorted(named)]
        kind = 1 if lift.events.by_value else 0
        on, off = (side.errors[named][kind].times(factor) for side, factor in sides)
        error = on.plus(off)
        largest = lift.difference.std_err * lift.units_on * np.sqrt(error.variance)
        outcome = Outcome(
            lift.difference,
            Estimate(sum(on - off for on, off in pairs), float(np.sqrt(error.variance))),
            # Covariates may have taken away more of the lift's error than they share with credit.
            float(np.clip(error.covariance, -largest, largest)),
        )
        return LiftTest(
            experiment=self.link.name,
            target=self.target,
            tested=replace(credited.cell, units=lift.units_on),
            credited=credited.cell,
            outcome=outcome,
            caution=lift.caution,
        )

    def _sides(self, index: int) -> tuple[Lift, tuple[tuple[GroupCredit, float], ...]]:
        """The credit where the channel was on and where it was off, and what makes it that of as
        many units as the lift has.
        """
        lift, credited = self.lift, self.credited
        assert lift is not None
        assert credited is not None
        sides = ((credited.on[index], credited.units_on), (credited.off[index], credited.units_off))
        return lift, tuple((side, lift.units_on / units) for side, units in sides)


@dataclass(frozen=True, slots=True)
class Tested:
    """All links of a report, and the identity version that the credit beside them used.

    `switched` are the channels that the same groups switched, by group where they were on.
    """

    tests: tuple[LinkedTest, ...]
    identity_version: str
    switched: Mapping[Groups, Channels] = field(default_factory=dict)


def linked_tests(
    question: Question,
    links: Sequence[CalibrationLink],
    channels: frozenset[str],
    sources: CalibrationSources,
    known: Sequence[CalibrationLink] = (),
) -> Tested:
    """Read the lift of each link that fits the report, and credit the same conversions.

    `question` is that of the report at the cut of the tests, and `channels` are those of the
    report. `known` are links that are not used, and yet say which channels a test switched.
    """
    variants = dict.fromkeys(each for link in links for each in (link.control, *link.treatment))
    if not variants:
        return Tested((), "")
    switched = _switched([*links, *known], question, channels)
    together = {groups: {channels} for groups, channels in switched.items()}
    for link in links:
        together.setdefault(groups_of(link), set()).add(frozenset((link.channel,)))
    cells = CreditedCells(
        question, sources.log, sources.limits, sources.exposures, tuple(variants), together
    )
    tests = tuple(
        LinkedTest(link, findings=unfit)
        if (unfit := (*_unfit(question, link, channels), *_swapped(link, switched)))
        else _linked(question, link, cells, sources.lifts)
        for link in links
    )
    return Tested(tests, cells.identity_version, switched)


def groups_of(link: CalibrationLink) -> Groups:
    """The groups that the link compares: where the channel was on, and where it was off."""
    return frozenset(link.shown), frozenset(link.held_out)


def _switched(
    links: Sequence[CalibrationLink], question: Question, channels: frozenset[str]
) -> dict[Groups, Channels]:
    found: dict[Groups, Channels] = {}
    for link in links:
        if not any(_unfit(question, link, channels)):
            before = found.get(groups_of(link), frozenset())
            found[groups_of(link)] = before | {link.channel}
    return found


def _linked(
    question: Question,
    link: CalibrationLink,
    cells: CreditedCells,
    lifts: LiftSource,
) -> LinkedTest:
    lift = lifts.lift(link, question.as_of, question.definition.stitching)
    if isinstance(lift, NoLift):
        return LinkedTest(link, findings=(_finding(link, lift.conflict, lift.why, left_out=True),))
    findings = tuple(_of_lift(question, link, lift))
    if any(finding.left_out for finding in findings):
        return LinkedTest(link, lift, findings=findings)
    credited = cells.credited(link.shown, link.held_out, lift.events)
    more = tuple(_of_credit(link, lift, credited))
    return LinkedTest(link, lift, credited, findings + more)


def _unfit(
    question: Question, link: CalibrationLink, channels: frozenset[str]
) -> Iterator[Finding]:
    definition = question.definition
    if link.credited != definition.credited:
        why = f"the report credits {_words(definition.credited)} and the link names one of "
        why = f"{why}{_words(link.credited)}; run a report that credits these"
        yield _finding(link, Conflict.OTHER_CREDIT_KEY, why, left_out=True)
    elif link.channel not in channels:
        why = f"nothing is credited to {link.channel!r} in this report"
        yield _finding(link, Conflict.UNKNOWN_CHANNEL, why, left_out=True)


def _swapped(link: CalibrationLink, switched: Mapping[Groups, Channels]) -> Iterator[Finding]:
    on, off = groups_of(link)
    others = switched.get((off, on))
    if others:
        why = (
            f"the same groups switched {', '.join(sorted(others))} the other way round: their lift"
        )
        why = f"{why} is the difference of the two, and says nothing of either"
        yield _finding(link, Conflict.SWITCHED_TOGETHER, why, left_out=True)


def _words(credited: object) -> str:
    return str(getattr(credited, "value", None) or getattr(credited, "key", ""))


def _of_lift(question: Question, link: CalibrationLink, lift: Lift) -> Iterator[Finding]:
    definition, events = question.definition, lift.events
    if events.event_name != definition.event_name:
        why = f"metric {link.metric_id} measures {events.event_name!r} and the report credits "
        why = f"{why}{definition.event_name!r}: lift and credit are of different conversions"
        yield _finding(link, Conflict.OTHER_EVENT, why, left_out=True)
    elif events.condition != definition.conversion_filter:
        why = f"metric {link.metric_id} and the report filter {events.event_name!r} differently"
        yield _finding(link, Conflict.OTHER_FILTER, why, left_out=True)
    if lift.alert:
        why = "the sizes of the arms contradict their weights: find the cause before this is used"
        yield _finding(link, Conflict.UNTRUSTED_RESULTS, why, left_out=True)
    if lift.caution > 1.0:
        wide = f"is {lift.caution:.2g} times as wide as that of one look"
        wide = wide if np.isfinite(lift.caution) else "has no ends yet"
        why = f"the interval that holds whenever one looks {wide}: the tested kappa has it, and the"
        why = f"{why} shrunken one the interval that its prior makes; do not stop a test by that"
        yield _finding(link, Conflict.READ_AT_ONE_LOOK, why)
    if events.capped:
        why = f"metric {link.metric_id} counts a unit up to a cap, which credit does not know"
        yield _finding(link, Conflict.CAPPED, why)


def _of_credit(link: CalibrationLink, lift: Lift, credited: Credited) -> Iterator[Finding]:
    if not credited.units_on or not credited.units_off or not lift.units_on:
        why = f"{credited.units_on} units of the journeys were seen with the channel on and "
        why = f"{why}{credited.units_off} with it off: there is nothing to compare"
        yield _finding(link, Conflict.NO_SHARED_UNITS, why, left_out=True)
        return
    yield from _of_currency(link, lift.events.currency, credited.currencies)
    if credited.repeated and lift.events.once:
        why = "the metric counts a unit once, and some convert again: kappa is of first conversions"
        yield _finding(link, Conflict.COUNTED_ONCE, why)


def _of_currency(
    link: CalibrationLink, currency: str, currencies: tuple[str, ...]
) -> Iterator[Finding]:
    if not currency or currencies == (currency,):
        return
    why = (
        f"metric {link.metric_id} counts values in {currency} alone, and the journeys hold amounts"
    )
    why = f"{why} in {', '.join(currencies)}" if currencies else f"{why} without a currency"
    left_out = currency not in currencies
    yield _finding(link, Conflict.OTHER_CURRENCY, why, left_out=left_out)


def _finding(
    link: CalibrationLink, conflict: Conflict, why: str, *, left_out: bool = False
) -> Finding:
    return Finding(conflict, Target(link.channel), (link.name,), why, left_out)


def _of(credit: Credit, channel: str, *, by_value: bool) -> float:
    return credit.get(channel, (0.0, 0.0))[1 if by_value else 0]
