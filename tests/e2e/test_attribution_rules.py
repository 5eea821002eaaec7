"""Journeys and rules through the service, against plain loops over the events that were logged.

A seeded history has several kinds of touches, ties, touches at the edges of windows, repeated
conversions, devices that were linked and unlinked, and campaigns and properties that were not sent.
It arrives out of order and in parts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import grpc
import pytest
from google.protobuf import field_mask_pb2
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as service_grpc
from touchstone.attribution.v1 import grouping_service_pb2 as grouping_pb
from touchstone.attribution.v1 import grouping_service_pb2_grpc as grouping_grpc
from touchstone.attribution.v1 import score_service_pb2

from tests.e2e.attribution_checks import RULES, World, check_answer, distinct, near
from tests.e2e.attribution_history import (
    EDGES,
    START_US,
    History,
    definition_of,
    message_of,
    random_rules,
)
from tests.e2e.attribution_oracle import DAY, Compare, Event, Join, Rules, cut
from tests.e2e.attribution_weights import Case, games, removal_effects
from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT

MILESTONES = ("lead", "opportunity")
GAMES = games()
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


@pytest.fixture(scope="module")
def world(suite: Suite) -> World:
    found = World(suite)
    for batch in History(seed=11, units=110).batches(4):
        found.log(batch)
    return found


@pytest.mark.parametrize("name", DEFINITIONS)
def test_rules_credit_what_loops_over_the_events_count(world: World, name: str) -> None:
    definition = DEFINITIONS[name]
    found = cut(world.events, definition, MILESTONES)
    assert len(found.converting) >= 15
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
    "why-windows": (
        Rules(windows=WINDOWS, associations=(("product", "bought"),)),
        {"OUTSIDE_WINDOW", "NOT_ASSOCIATED"},
    ),
    "why-split": (DEFINITIONS["split"], {"BEFORE_PREVIOUS_CONVERSION"}),
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


@pytest.mark.parametrize(("number", "definition"), [*enumerate(random_rules(seed=7, count=16))])
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


def sample(event: Event) -> service_pb.SampleTouch:
    logged = message_of(event)
    return service_pb.SampleTouch(touchpoint=logged.touchpoint, properties=logged.properties)


def test_a_grouping_is_tried_on_touches_edited_and_credited_by_version(world: World) -> None:
    first = Rules(grouping=COARSE)
    edited = Rules(grouping=(*COARSE[1:], (PAID, "Paid")), otherwise="Rest")
    kept = definition_of(first).channel_grouping
    edit = definition_of(edited).channel_grouping
    groupings = grouping_grpc.ChannelGroupingServiceStub(world.suite.channel("attribution"))
    made = groupings.CreateChannelGrouping(
        grouping_pb.CreateChannelGroupingRequest(
            parent=PROJECT, channel_grouping_id="coarse", channel_grouping=kept
        ),
        metadata=world.suite.metadata,
    ).channel_grouping
    touches = [event for event in world.events if event.kind == "touch"][:400]
    edit.name = made.name
    stub = service_grpc.AttributionServiceStub(world.suite.channel("attribution"))
    tried = stub.TestChannelGrouping(
        service_pb.TestChannelGroupingRequest(
            grouping=edit, touches=[sample(touch) for touch in touches]
        ),
        metadata=world.suite.metadata,
    )
    was, now = ([rules_.channel(touch) for touch in touches] for rules_ in (first, edited))
    assert [touch.kept_channel for touch in tried.touches] == was
    assert [touch.channel for touch in tried.touches] == now
    assert tried.changed == sum(a != b for a, b in zip(was, now, strict=True)) > 50
    edit.etag = made.etag
    groupings.UpdateChannelGrouping(
        grouping_pb.UpdateChannelGroupingRequest(
            channel_grouping=edit,
            update_mask=field_mask_pb2.FieldMask(paths=["rules", "otherwise"]),
        ),
        metadata=world.suite.metadata,
    )
    for version, definition in ((1, first), (0, edited)):
        found = cut(world.events, definition, MILESTONES)
        message = definition_of(Rules())
        message.channel_grouping.name, message.channel_grouping.version = made.name, version
        request = service_pb.GetAttributionRequest(
            journeys=message,
            models=[case.model for case in RULES[:7]],
            consistency_token=world.token,
        )
        answer = stub.GetAttribution(request, metadata=world.suite.metadata)
        check_answer(answer, RULES[:7], found)
        assert answer.provenance.journeys.channel_grouping.version == (version or 2)


def test_a_filter_of_one_currency_leaves_no_doubt_of_several(world: World) -> None:
    mixed = pb.WARNING_KIND_MIXED_CURRENCIES
    euro = Compare("currency", "IN", ("EUR",))
    for definition, warned in ((Rules(), True), (Rules(conversion_filter=euro), False)):
        answer = world.asked(definition, RULES[:1])
        assert (mixed in {warning.kind for warning in answer.warnings}) is warned


def test_paths_that_are_transformed_know_their_direct_touches(world: World) -> None:
    stub = service_grpc.AttributionServiceStub(world.suite.channel("attribution"))
    request = service_pb.EvaluatePathsRequest(
        paths=[service_pb.PathCounts(path="ads > direct > direct", conversions=2)],
        models=[pb.Model(last_non_direct=pb.LastNonDirect())],
        path_transforms=[pb.PathTransform(kind=pb.PATH_TRANSFORM_KIND_FREQUENCY)],
    )
    (result,) = stub.EvaluatePaths(request, metadata=world.suite.metadata).results
    credited = {row.channel: row.conversions for row in result.channels}
    assert credited == {"ads(1)": 2, "direct(2)": 0}


def test_names_that_no_touch_has_are_said(world: World) -> None:
    definition = Rules(
        windows=(("Mial", "", DAY), ("Mail", "clik", DAY), ("Mail", "click", DAY)),
        direct="DROP",
        direct_channels=("direct", "Diret"),
        transforms=(("REMOVE_IF_NOT_ALL", ("Viedo", "Mail")),),
    )
    model = pb.Model(last_non_direct=pb.LastNonDirect(channels=["Organic", "Orgnic"]))
    answer = world.asked(definition, [replace(RULES[0], model=model)])
    unseen = [w for w in answer.warnings if w.kind == pb.WARNING_KIND_UNSEEN_NAME]
    assert [warning.message.partition(", and")[0] for warning in unseen] == [
        "journeys.windows[0].channel is 'Mial'",
        "journeys.windows[1].interaction is 'clik'",
        "journeys.direct.channels is 'Diret'",
        "journeys.path_transforms[0].channels is 'Viedo'",
        "last_non_direct.channels is 'Orgnic'",
    ]
    assert [warning.channel for warning in unseen] == ["Mial", "", "Diret", "Viedo", "Orgnic"]
    usual = world.asked(DEFINITIONS["direct_skipped"], RULES[2:3])
    assert pb.WARNING_KIND_UNSEEN_NAME not in {warning.kind for warning in usual.warnings}


STREAMED = ("all", "first", "split", "windows", "associated", "direct_dropped", "campaigns")


@pytest.mark.parametrize("name", STREAMED)
def test_streamed_credits_are_those_of_each_touch_and_conversion(world: World, name: str) -> None:
    definition = DEFINITIONS[name]
    found = cut(world.events, definition, MILESTONES)
    stub = service_grpc.AttributionServiceStub(world.suite.channel("attribution"))
    for case in (RULES[3], RULES[-2], GAMES[2]):
        request = service_pb.StreamCreditsRequest(
            journeys=definition_of(definition), model=case.model, consistency_token=world.token
        )
        replies = stub.StreamCredits(request, metadata=world.suite.metadata)
        said = {
            (credit.conversion_id, credit.touch_id): (credit.weight, credit.value)
            for reply in replies
            for credit in reply.credits
        }
        weigh = case.prepare(found.journeys)
        expected = {
            (journey.bought.event_id, seen.touch.event_id): (weight, weight * journey.value)
            for journey in found.converting
            for seen, weight in zip(journey.touches, weigh(journey), strict=True)
            if journey.bought is not None
        }
        assert said.keys() == expected.keys()
        for key, amounts in expected.items():
            assert said[key] == pytest.approx(amounts, rel=1e-9, abs=1e-9)
