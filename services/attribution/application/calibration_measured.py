"""What links say of the credit of one result: of channels alone, and of those switched together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.attribution.application.calibration_cells import Channels, Groups
from services.attribution.application.calibration_links import CalibrationLink
from services.attribution.application.calibration_tests import LinkedTest, groups_of
from services.attribution.domain.calibration import Calibration
from services.attribution.domain.conflicts import Conflict, Finding
from services.attribution.domain.economics import Undefined
from services.attribution.domain.joint import JointTest, MeasuredJointly
from services.attribution.domain.lift import (
    Applied,
    Cell,
    Estimate,
    LiftTest,
    Measured,
    Target,
    critical,
    measure,
)

CREDITED_WHERE_OFF = 0.05
"""From this part of the credit where a channel was on it is worth saying that it was not off."""


@dataclass(frozen=True, slots=True)
class MeasuredKappa:
    """What one link says of one result's credit.

    `together` are the channels that its groups switched where there are several: `measured` is of
    all of them, `test` and the credit of the link's own.
    """

    link: CalibrationLink
    test: LiftTest
    by_value: bool
    credited_on: float
    credited_off: float
    measured: Measured | Undefined
    together: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Together:
    """What channels that were switched together caused in a report, with its interval."""

    jointly: MeasuredJointly
    by_value: bool
    incremental: Estimate
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Asked:
    """To what kappas are applied: the credit of channels, by conversions and by value; the cell of
    the report, None where another cut than that of the report is read; the level of intervals.
    """

    credit: Mapping[str, tuple[float, float]]
    cell: Cell | None
    alpha: float


@dataclass(frozen=True, slots=True)
class MeasuredTests:
    """What links say of one result, in their order; tests by whether they measure values."""

    kappas: tuple[MeasuredKappa, ...]
    alone: Mapping[bool, tuple[LiftTest, ...]]
    joint: Mapping[bool, tuple[JointTest, ...]]


def measured_tests(
    used: Sequence[LinkedTest], switched: Mapping[Groups, Channels], index: int, asked: Asked
) -> MeasuredTests:
    """Measure every link, and each joint test once: by the first of its links by name."""
    alone: dict[bool, list[LiftTest]] = {False: [], True: []}
    joint: dict[bool, list[JointTest]] = {False: [], True: []}
    kappas, done = [], set()
    for linked in sorted(used, key=lambda each: each.link.name):
        assert linked.lift is not None
        by_value, groups = linked.lift.events.by_value, groups_of(linked.link)
        channels = switched[groups]
        whole = _applied(linked.test(index, channels), linked, index, asked, channels)
        if len(channels) == 1:
            alone[by_value].append(whole)
        elif (groups, by_value) not in done:
            done.add((groups, by_value))
            credits_ = _credits(linked, index, channels)
            if len(credits_) > 1:
                joint[by_value].append(JointTest(whole, credits_))
            elif credits_:
                alone[by_value].append(replace(whole, target=credits_[0][0]))
        on, off = linked.credit(index)
        own = whole if len(channels) == 1 else linked.test(index, frozenset((linked.link.channel,)))
        together = tuple(sorted(channels)) if len(channels) > 1 else ()
        found = measure(whole, asked.alpha)
        kappas.append(MeasuredKappa(linked.link, own, by_value, on, off, found, together))
    order = [each.link.name for each in used]
    return MeasuredTests(
        tuple(sorted(kappas, key=lambda each: order.index(each.link.name))),
        {kind: tuple(tests) for kind, tests in alone.items()},
        {kind: tuple(tests) for kind, tests in joint.items()},
    )


def _credits(
    linked: LinkedTest, index: int, channels: Channels
) -> tuple[tuple[Target, float], ...]:
    """The channels that were credited more where they were on."""
    found = []
    for channel in sorted(channels):
        on, off = linked.credit(index, channel)
        if on > off:
            found.append((Target(channel), on - off))
    return tuple(found)


def _applied(
    test: LiftTest, linked: LinkedTest, index: int, asked: Asked, channels: Channels
) -> LiftTest:
    """The test, applied to the credit of its channels in the report."""
    assert linked.lift is not None
    kind = 1 if linked.lift.events.by_value else 0
    whole = sum(asked.credit.get(channel, (0.0, 0.0))[kind] for channel in sorted(channels))
    tested = sum(linked.credit(index, channel)[0] for channel in sorted(channels))
    cell, own = asked.cell, test.credited
    contained = cell is not None and cell.start_us <= own.start_us and own.end_us <= cell.end_us
    share = tested / whole if whole > 0 and tested > 0 else 0.0
    return replace(test, applied=Applied(share, contained))


def told_together(
    calibration: Calibration, asked: Asked, *, by_value: bool
) -> tuple[Together, ...]:
    """What the channels of each joint test caused together in the report."""
    found, kind, believed = [], 1 if by_value else 0, calibration.believed
    reach = critical(asked.alpha)
    if believed is None:
        return ()
    for each in calibration.joint:
        weights = [
            asked.credit.get(target.channel, (0.0, 0.0))[kind] * (target in each.joint.targets)
            for target in believed.targets
        ]
        caused = believed.total(weights)
        ends = (caused.value - reach * caused.std_err, caused.value + reach * caused.std_err)
        found.append(Together(each, by_value, caused, *ends))
    return tuple(found)


def credit_findings(tested: MeasuredKappa) -> list[Finding]:
    """What is wrong with the credit beside one test."""
    target, names = tested.test.target, (tested.link.name,)
    if tested.test.outcome.attributed.value <= 0:
        why = "no more was credited where it was on than where it was off: "
        lift = f"lift of {tested.test.incremental.value:.6g}"
        if tested.together:
            why = f"{why}the {lift} is split among what was switched with it"
        else:
            why = f"{why}its {lift} stands alone, without a kappa"
        return [Finding(Conflict.NOTHING_ATTRIBUTED, target, names, why, left_out=True)]
    if tested.credited_off > CREDITED_WHERE_OFF * tested.credited_on:
        part = tested.credited_off / tested.credited_on
        why = f"where it was off it was credited {part:.0%} as much as where it was on, by touches "
        why = f"{why}from before the exposure or in spite of the switch; kappa is of the difference"
        return [Finding(Conflict.CREDITED_WHERE_OFF, target, names, why)]
    return []


def together_findings(
    used: Sequence[LinkedTest], switched: Mapping[Groups, Channels]
) -> list[Finding]:
    """Which tests switched several channels at once."""
    links: dict[Groups, list[str]] = {}
    for test in used:
        links.setdefault(groups_of(test.link), []).append(test.link.name)
    found = []
    for groups, names in sorted(links.items(), key=lambda each: each[1]):
        channels = sorted(switched[groups])
        if len(channels) > 1:
            why = f"{', '.join(channels)} were switched by the same groups: the lift is of all of"
            why = f"{why} them, and is split by what each is credited with; only a test of one"
            why = f"{why} alone can tell it from the others"
            found.append(Finding(Conflict.SWITCHED_TOGETHER, None, tuple(sorted(names)), why))
    return found
