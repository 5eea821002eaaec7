"""The order of decision: of two reasons for which a unit may be out, the earlier one is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from touchstone.assignment.v1 import assignment_service_pb2, ruleset_pb2
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.decision import Decision, Reason
from touchstone_assignment.subject import Subject

from tests.unit.assignment import ruling

RUNNING_FOR_S = 10.0


@dataclass
class Case:
    """A ruleset and a subject that get a variant, until causes are added."""

    rule: ruleset_pb2.ExperimentRule = field(default_factory=ruling.experiment)
    layer: ruleset_pb2.LayerRule = field(default_factory=ruling.layer)
    holdouts: list[ruleset_pb2.HoldoutRule] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=lambda: {"user": "u1", "device": "d1"})

    def decision(self) -> Decision:
        found = ruling.evaluator(self.rule, layers=[self.layer], holdouts=self.holdouts)
        return found.decide("button", Subject(self.ids, {}, RUNNING_FOR_S))

    def reason(self) -> Reason:
        return self.decision().reason


def external(case: Case) -> None:
    case.rule.serving = ruleset_pb2.SERVING_EXTERNAL


def killed(case: Case) -> None:
    case.rule.serving = ruleset_pb2.SERVING_KILLED


def forced(case: Case) -> None:
    case.rule.forced.add(unit_type="device", unit_id="d1", variant="green")


def not_running(case: Case) -> None:
    case.rule.serving = ruleset_pb2.SERVING_NOT_RUNNING


def missing_unit(case: Case) -> None:
    del case.ids["user"]


def held_out(case: Case) -> None:
    # By a device, of which the subject has an id whatever else is missing.
    case.holdouts.append(ruling.holdout(unit_type="device", experiments=["button"]))


def without_prerequisite(case: Case) -> None:
    case.rule.prerequisites.add(experiment="gone")


def not_targeted(case: Case) -> None:
    case.rule.targeting.CopyFrom(ruling.country("DE"))


def not_in_domain(case: Case) -> None:
    case.layer.domain = "released"


def not_in_slots(case: Case) -> None:
    del case.rule.slots[:]


def missing_region(case: Case) -> None:
    case.rule.switchback.window_s = 3600
    case.rule.switchback.region_attribute = "region"


def washout(case: Case) -> None:
    case.rule.switchback.window_s = 3600
    case.rule.switchback.washout_s = 60


def dropped(case: Case) -> None:
    for variant in case.rule.variants:
        variant.dropped = True


ORDER: list[tuple[Callable[[Case], None], Reason]] = [
    (killed, Reason.KILLED),
    (forced, Reason.FORCED),
    (not_running, Reason.NOT_RUNNING),
    (missing_unit, Reason.MISSING_UNIT),
    (held_out, Reason.HOLDOUT),
    (without_prerequisite, Reason.PREREQUISITE),
    (not_targeted, Reason.NOT_TARGETED),
    (not_in_domain, Reason.NOT_IN_DOMAIN),
    (not_in_slots, Reason.NOT_IN_SLOTS),
    (missing_region, Reason.MISSING_REGION),
    (washout, Reason.WASHOUT),
    (dropped, Reason.VARIANT_DROPPED),
]


def test_without_a_cause_the_split_decides() -> None:
    assert Case().reason() is Reason.SPLIT


@pytest.mark.parametrize(("cause", "reason"), ORDER, ids=lambda value: getattr(value, "name", ""))
def test_each_cause_alone_is_given_as_the_reason(
    cause: Callable[[Case], None], reason: Reason
) -> None:
    case = Case()
    cause(case)
    assert case.reason() is reason


@pytest.mark.parametrize("first", range(len(ORDER) - 1), ids=lambda n: ORDER[n][1].value)
def test_of_two_neighbours_the_earlier_one_is_the_reason(first: int) -> None:
    case = Case()
    # The later one first: both may write the same field, as one switch overrides another.
    ORDER[first + 1][0](case)
    ORDER[first][0](case)
    assert case.reason() is ORDER[first][1]


@pytest.mark.parametrize("first", range(len(ORDER)), ids=lambda n: ORDER[n][1].value)
def test_of_all_causes_that_are_left_the_first_is_the_reason(first: int) -> None:
    case = Case()
    for cause, _ in reversed(ORDER[first:]):
        cause(case)
    assert case.reason() is ORDER[first][1]


def test_another_system_comes_before_everything() -> None:
    case = Case()
    for cause, _ in reversed(ORDER):
        cause(case)
    external(case)
    assert case.reason() is Reason.EXTERNAL


def test_every_reason_of_the_contract_is_one_of_the_evaluators() -> None:
    assert {reason.value for reason in Reason} == {
        name.removeprefix("DECISION_REASON_")
        for name in assignment_service_pb2.DecisionReason.DESCRIPTOR.values_by_name
        if name != "DECISION_REASON_UNSPECIFIED"
    }


def test_only_known_hashes_and_formats_are_compiled() -> None:
    with pytest.raises(ValueError, match=r"'button': hash version 7 is not known"):
        ruling.evaluator(ruling.experiment(hash_version=7))
    newer = ruling.ruleset()
    newer.format = 2
    with pytest.raises(ValueError, match="format 2; understood are those up to 1"):
        compile_ruleset(newer, ruling.no_lists)
