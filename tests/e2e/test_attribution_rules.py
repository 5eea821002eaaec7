"""Journeys and rules through the service, against plain loops over the events that were logged.

A seeded history has several kinds of touches, ties, touches at the edges of windows, repeated
conversions, devices that were linked and unlinked, and campaigns and properties that were not sent.
It arrives out of order and in parts.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as service_grpc
from touchstone.attribution.v1 import (
    held_out_pb2,
    report_pb2,
    score_service_pb2,
    score_service_pb2_grpc,
    uncertainty_pb2,
)
from touchstone.attribution.v1 import report_service_pb2 as report_service_pb
from touchstone.attribution.v1 import report_service_pb2_grpc as report_grpc

from tests.e2e.attribution_history import (
    EDGES,
    START_US,
    History,
    definition_of,
    message_of,
    random_rules,
)
from tests.e2e.attribution_oracle import DAY, Compare, Event, Found, Join, Journey, Rules, cut
from tests.e2e.attribution_weights import Case, Weights, games, removal_effects, rules
from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT, log

MILESTONES = ("lead", "opportunity")
RULES, GAMES = rules(), games()
# Few sets of channels and paths, so that models that learn have something to learn from.
COARSE = (
    (Compare("interaction", "IN", ("impression", "click")), "Media"),
    (Compare("channel", "IN", ("direct",)), "direct"),
    (Join("not", (Compare("interaction", "IS_SET"),)), "Unknown"),
    (Compare("interaction", "IN", ("visit",)), "Site"),
)
PAID = Join("any", (Compare("medium", "IN", ("cpc",)), Compare("cost", "GREATER", (1.0,))))
WORTH = Join("all", (Compare("value", "GREATER", (0.0,)), Compare("currency", "IN", ("EUR",))))
WINDOWS = (("Mail", "", EDGES[2]), ("", "impression", EDGES[0]), ("Video", "impression", DAY))
DEFINITIONS = {
    "all": Rules(lookback=EDGES[1]),
    "first": Rules(lookback=EDGES[2], repeats="FIRST"),
    "split": Rules(lookback=EDGES[2], repeats="SPLIT"),
    "windows": Rules(lookback=EDGES[1], windows=WINDOWS),
    "windows_of_groups": Rules(
        windows=(("Media", "", EDGES[1]), ("Media", "click", EDGES[2])), grouping=COARSE
    ),
    "associated": Rules(associations=(("product", "bought"),)),
    "associated_first": Rules(associations=(("product", "bought"),), repeats="FIRST"),
    "direct_skipped": Rules(direct="SKIP_IF_OTHER"),
    "direct_dropped": Rules(direct="DROP", direct_channels=("direct", "Organic")),
    "campaigns": Rules(credited="campaign", direct="SKIP_IF_OTHER"),
    "sources": Rules(credited="source_medium"),
    "interactions": Rules(credited="interaction", repeats="SPLIT"),
    "regions": Rules(
        credited="properties.region",
        touch_filter=Compare("interaction", "IN", ("call", "offline")),
    ),
    "employees": Rules(credited="properties.employee", lookback=EDGES[2]),
    "grouped": Rules(
        lookback=EDGES[2], grouping=((PAID, "Paid"), (Compare("channel", "IN", ("Mail",)), "CRM"))
    ),
    "grouped_otherwise": Rules(grouping=COARSE, otherwise="Field"),
    "worth": Rules(conversion_filter=WORTH, repeats="FIRST"),
    "point_in_time": Rules(point_in_time=True),
    "april": Rules(
        lookback=EDGES[2], repeats="SPLIT", start=START_US + 20 * DAY, end=START_US + 40 * DAY
    ),
    "newest": Rules(max_touches=2, direct="SKIP_IF_OTHER"),
    "leads": Rules(event_name="lead"),
    **{
        f"path_{kind.lower()}": Rules(transforms=((kind, ()),), grouping=COARSE)
        for kind in ("UNIQUE", "EXPOSURE", "EXPOSURE_LAST", "FIRST", "LAST", "FREQUENCY")
    },
    "removed": Rules(transforms=(("REMOVE_IF_NOT_ALL", ("direct", "Mail")), ("EXPOSURE", ()))),
    "removed_at_the_end": Rules(transforms=(("REMOVE_IF_LAST_AND_NOT_ALL", ("direct",)),)),
}


@pytest.fixture(scope="module")
def suite(module_suite: Suite) -> Suite:
    """Of its own: what is counted here is all that there is."""
    return module_suite


@dataclass
class World:
    """What was logged, in the order of the log, and the service that it was logged to."""

    suite: Suite
    events: list[Event] = field(default_factory=list)
    token: str = ""

    def log(self, events: Sequence[Event]) -> None:
        self.token = log(self.suite, [message_of(event) for event in events])
        self.events += events

    def asked(
        self, definition: Rules, cases: Sequence[Case], min_units: int = 1
    ) -> service_pb.GetAttributionResponse:
        stub = service_grpc.AttributionServiceStub(self.suite.channel("attribution"))
        request = service_pb.GetAttributionRequest(
            journeys=definition_of(definition),
            models=[case.model for case in cases],
            consistency_token=self.token,
            min_units=min_units,
        )
        return stub.GetAttribution(request, metadata=self.suite.metadata)

    def watermark(self) -> str:
        """The newest cut, that holds all that was logged."""
        return self.asked(Rules(), RULES[:1]).provenance.watermark

    def report(
        self, name: str, definition: Rules, cases: Sequence[Case], as_of: str = ""
    ) -> report_pb2.AttributionReport:
        stub = report_grpc.ReportServiceStub(self.suite.channel("attribution"))
        begun = stub.RunAttribution(
            report_service_pb.RunAttributionRequest(
                parent=PROJECT,
                report_id=name,
                journeys=definition_of(definition),
                models=[case.model for case in cases],
                as_of=as_of or self.watermark(),
                min_units=1,
                bootstrap=uncertainty_pb2.Bootstrap(off=True),
                held_out=held_out_pb2.HeldOut(off=True),
            ),
            metadata=self.suite.metadata,
        )
        wait = operations_pb2.WaitOperationRequest(
            name=begun.operation.name, timeout=duration_pb2.Duration(seconds=30)
        )
        ended = operations_pb2_grpc.OperationsStub(self.suite.channel("attribution")).WaitOperation(
            wait, metadata=self.suite.metadata
        )
        assert ended.done
        assert not ended.HasField("error"), ended.error
        get = report_service_pb.GetReportRequest(name=f"{PROJECT}/attributionReports/{name}")
        return stub.GetReport(get, metadata=self.suite.metadata).report

    def why(self, report: str, conversion: str) -> score_service_pb2.GetConversionCreditsResponse:
        stub = score_service_pb2_grpc.ScoreServiceStub(self.suite.channel("attribution"))
        request = score_service_pb2.GetConversionCreditsRequest(
            report=report, conversion_id=conversion
        )
        return stub.GetConversionCredits(request, metadata=self.suite.metadata)


@pytest.fixture(scope="module")
def world(suite: Suite) -> World:
    found = World(suite)
    for batch in History(seed=11, units=150).batches(4):
        found.log(batch)
    return found


def distinct(cases: Sequence[Case]) -> list[Case]:
    """A model that is asked for twice, by its defaults and in words, is answered once."""
    found: dict[object, Case] = {}
    for case in cases:
        found.setdefault(case.meant, case)
    return list(found.values())


def totals(
    weights: Sequence[Weights], journeys: Sequence[Journey]
) -> dict[str, tuple[float, float]]:
    """Conversions and value of each label."""
    credited: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
    for own, journey in zip(weights, journeys, strict=True):
        for weight, label in zip(own, journey.path, strict=True):
            credited[label][0].append(weight)
            credited[label][1].append(weight * journey.value)
    return {label: (math.fsum(a), math.fsum(b)) for label, (a, b) in credited.items()}


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def check_summary(summary: pb.JourneySummary, found: Found) -> None:
    converting = found.converting
    assert summary.journeys == len(found.journeys)
    assert summary.converting_journeys == len(converting)
    assert summary.conversions_without_touch == len(found.alone)
    assert summary.value == near(math.fsum(j.value for j in converting))
    assert summary.value_without_touch == near(
        math.fsum(bought.fields.get("value", 0.0) for bought in found.alone)
    )
    assert summary.units == len({journey.unit for journey in found.journeys})


def check_activity(activity: Sequence[pb.ChannelActivity], found: Found) -> None:
    for row in activity:
        holding = [journey for journey in found.journeys if row.channel in journey.path]
        assert row.journeys == len(holding), row.channel
        assert row.converting_journeys == sum(j.bought is not None for j in holding)
        assert row.units == len({journey.unit for journey in holding})


def check_result(result: pb.ModelResult, case: Case, found: Found) -> None:
    converting = found.converting
    weigh = case.prepare(found.journeys)
    weights = [weigh(journey) for journey in converting]
    expected = totals(weights, converting)
    assert result.model_name == case.name
    assert result.additive == case.additive
    said = {row.channel: row for row in result.channels}
    assert expected.keys() <= said.keys()
    for label, row in said.items():
        conversions, value = expected.get(label, (0.0, 0.0))
        at = f"{result.model} {label}"
        assert row.conversions == near(conversions), at
        assert row.value == near(value), at
        assert row.share == near(conversions / len(converting)), at
    if case.additive:
        whole = math.fsum(row.conversions for row in result.channels)
        assert whole + result.uncredited == near(len(converting))
        assert result.uncredited == near(sum(not sum(own) for own in weights))


def check_answer(
    answer: service_pb.GetAttributionResponse | report_pb2.AttributionReport,
    cases: Sequence[Case],
    found: Found,
) -> None:
    check_summary(answer.summary, found)
    check_activity(answer.activity, found)
    results = [r for r in answer.results if r.model_name != "markov_removal_share"]
    for result, case in zip(results, distinct(cases), strict=True):
        check_result(result, case, found)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_rules_credit_what_loops_over_the_events_count(world: World, name: str) -> None:
    definition = DEFINITIONS[name]
    found = cut(world.events, definition, MILESTONES)
    assert len(found.converting) >= 20
    for cases in (RULES[:20], RULES[20:]):
        check_answer(world.asked(definition, cases), cases, found)


COARSE_DEFINITIONS = {
    "grouped": Rules(grouping=COARSE, otherwise="Field"),
    "grouped_split": Rules(
        grouping=COARSE, otherwise="Field", repeats="SPLIT", lookback=EDGES[2], direct="DROP"
    ),
    "interactions": Rules(credited="interaction", windows=WINDOWS),
}


@pytest.mark.parametrize("name", COARSE_DEFINITIONS)
def test_models_that_learn_credit_what_their_definitions_say(world: World, name: str) -> None:
    definition = COARSE_DEFINITIONS[name]
    found = cut(world.events, definition)
    answer = world.asked(definition, GAMES)
    check_answer(answer, GAMES, found)
    shares = [r for r in answer.results if r.model_name == "markov_removal_share"]
    converting = len(found.converting)
    for result in shares:
        asked = result.model.markov
        effects = removal_effects(found.journeys, asked.order, not asked.ignore_non_converting)
        for row in result.channels:
            effect = effects.get(row.channel, 0.0)
            assert row.removal_effect == near(effect)
            assert row.conversions == near(effect / sum(effects.values()) * converting)
    assert [r.model.markov.order for r in shares] == [1, 1, 2, 2]


def check_credits(world: World, report: str, definition: Rules, cases: Sequence[Case]) -> set[str]:
    """Why conversions have their credits: some of every outcome, each touch of them."""
    found = cut(world.events, definition, MILESTONES)
    draw = random.Random(5)
    credited = {j.bought.event_id: j for j in found.journeys if j.bought is not None}
    weighs = [case.prepare(found.journeys) for case in distinct(cases)]
    alone = {bought.event_id for bought in found.alone}
    chosen = [*draw.sample(sorted(credited), 12), *sorted(alone)[:3]]
    chosen += sorted(found.reasons.keys() - credited.keys() - alone)[:3]
    verdicts = set()
    for conversion in chosen:
        said = world.why(report, conversion)
        judged = found.reasons[conversion]
        assert [touch.touch_id for touch in said.touches] == [
            seen.touch.event_id for seen, _ in judged
        ]
        journey = credited.get(conversion)
        weights = [weigh(journey) for weigh in weighs] if journey else []
        counted = [n for n, (_, reasons) in enumerate(judged) if not reasons]
        for number, (touch, (seen, reasons)) in enumerate(zip(said.touches, judged, strict=True)):
            verdict = score_service_pb2.TouchVerdict.Name(touch.verdict)
            verdict = verdict.removeprefix("TOUCH_VERDICT_")
            verdicts.add(verdict)
            assert verdict in (reasons or {"COUNTS"}), (conversion, seen)
            place = counted.index(number) if number in counted else None
            expected = [] if place is None else [own[place] for own in weights]
            assert list(touch.weights) == pytest.approx(expected, rel=1e-9, abs=1e-9)
            assert touch.lookback.ToMicroseconds() == seen.reach
        outcome = score_service_pb2.ConversionOutcome.Name(said.outcome)
        verdicts.add(outcome)
        assert (journey is not None) == (outcome == "CONVERSION_OUTCOME_CREDITED")
    return verdicts


EXPLAINED = {
    "why-windows": (DEFINITIONS["windows"], {"OUTSIDE_WINDOW"}),
    "why-split": (
        Rules(lookback=EDGES[2], repeats="SPLIT", associations=(("product", "bought"),)),
        {"BEFORE_PREVIOUS_CONVERSION", "NOT_ASSOCIATED"},
    ),
    "why-first": (
        Rules(repeats="FIRST", direct="SKIP_IF_OTHER"),
        {"DIRECT", "CONVERSION_LEFT_OUT", "CONVERSION_OUTCOME_LEFT_OUT"},
    ),
    "why-paths": (
        Rules(transforms=(("EXPOSURE", ()),), max_touches=3, credited="properties.employee"),
        {"TRANSFORMED", "TOO_MANY", "CONVERSION_OUTCOME_WITHOUT_TOUCH"},
    ),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_report_says_why_conversions_have_their_credits(world: World, name: str) -> None:
    definition, verdicts = EXPLAINED[name]
    cases = RULES[3:33]
    report = world.report(name, definition, cases)
    check_answer(report, cases, cut(world.events, definition, MILESTONES))
    told = check_credits(world, report.name, definition, cases)
    assert verdicts | {"COUNTS", "CONVERSION_OUTCOME_CREDITED"} <= told


@pytest.mark.parametrize(("number", "definition"), [*enumerate(random_rules(seed=7, count=24))])
def test_any_combination_of_what_a_definition_may_ask_for(
    world: World, number: int, definition: Rules
) -> None:
    cases = random.Random(number).sample(RULES, 8)
    found = cut(world.events, definition, MILESTONES)
    check_answer(world.asked(definition, cases), cases, found)


def test_touches_of_units_that_were_unlinked_are_credited_to_nobody(world: World) -> None:
    """Journeys of the oracle know of links; those of nobody's devices are none."""
    linked = [event for event in world.events if event.kind == "unlink"]
    assert linked
    everyone = cut(world.events, Rules())
    kept = cut([e for e in world.events if e.kind != "unlink"], Rules())
    assert len(everyone.journeys) != len(kept.journeys)
    assert world.asked(Rules(), RULES[:1]).summary.journeys == len(everyone.journeys)


def test_late_events_are_in_the_next_report_and_not_in_the_cut_before(world: World) -> None:
    """Last of the tests: what it logs is a part of the history from then on."""
    definition, cases = DEFINITIONS["split"], RULES[:8]
    before, known = world.watermark(), len(world.events)
    world.report("late-1", definition, cases)
    for batch in History(seed=12, units=40).batches(2):
        world.log(batch)
    world.log([late_touch_of(world.events[:known])])
    after = cut(world.events, definition, MILESTONES)
    then = cut(world.events[:known], definition, MILESTONES)
    assert len(after.converting) > len(then.converting)
    check_answer(world.report("late-2", definition, cases), cases, after)
    check_answer(world.report("late-3", definition, cases, before), cases, then)


def late_touch_of(events: Sequence[Event]) -> Event:
    """A touch at the instant of a conversion that was reported long ago."""
    bought = next(e for e in events if e.kind == "conversion" and e.fields["event_name"] == "order")
    fields = {"channel": "Display", "interaction": "impression"}
    return Event("late-touch", "touch", bought.unit, bought.time, fields)


def evaluate(
    world: World, rows: Sequence[service_pb.PathCounts], models: Sequence[pb.Model]
) -> service_pb.EvaluatePathsResponse:
    stub = service_grpc.AttributionServiceStub(world.suite.channel("attribution"))
    request = service_pb.EvaluatePathsRequest(paths=rows, models=models)
    return stub.EvaluatePaths(request, metadata=world.suite.metadata)


def test_without_conversions_shares_and_effects_are_undefined(world: World) -> None:
    cases = [RULES[0], *GAMES[3:]]
    models = [case.model for case in cases]
    for answer in (
        evaluate(world, [service_pb.PathCounts(path="a > b", nulls=3)], models),
        world.asked(Rules(event_name="never"), cases),
    ):
        rows = [row for result in answer.results for row in result.channels]
        assert len(rows) >= 18
        assert not any(row.conversions or row.HasField("share") for row in rows)
        assert not any(row.HasField("removal_effect") for row in rows)


WRONG = pb.Model(position_based=pb.PositionBased(first=0.8, last=0.7))
GAME = pb.Model(shapley=pb.Shapley(game=pb.SHAPLEY_GAME_SUBSET_RATE))
PAIRS = pb.Model(
    shapley=pb.Shapley(
        game=pb.SHAPLEY_GAME_LEARNED, pairs=10_000, learner=pb.BaggedLogistic(rounds=1000)
    )
)
DEEP = pb.Model(markov=pb.Markov(order=10))


@pytest.mark.parametrize(
    ("model", "field", "said"),
    [
        (WRONG, "position_based", "first 0.8 and last 0.7"),
        (GAME, "shapley.channels", "60; allowed: at most 20 channels"),
        (PAIRS, "shapley.pairs", "10000; allowed: at most"),
        (DEEP, "markov.order", "10; allowed: 1 to 9 over 60 channels"),
    ],
)
def test_an_error_says_which_model_is_wrong(
    world: World, model: pb.Model, field: str, said: str
) -> None:
    paths = [service_pb.PathCounts(path=f"c{n} > d{n}", conversions=1) for n in range(30)]
    first = pb.Model(linear=pb.Linear())
    with pytest.raises(grpc.RpcError) as refused:
        evaluate(world, paths, [first, first, model])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    told = refused.value.details() or ""
    assert told.startswith(f"models[2].{field} is ")
    assert said in told


def test_an_error_of_streamed_credits_names_their_model(world: World) -> None:
    stub = service_grpc.AttributionServiceStub(world.suite.channel("attribution"))
    request = service_pb.StreamCreditsRequest(journeys=definition_of(Rules()), model=WRONG)
    with pytest.raises(grpc.RpcError, match=r"model\.position_based is "):
        list(stub.StreamCredits(request, metadata=world.suite.metadata))
