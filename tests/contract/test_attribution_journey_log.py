"""What JourneyLog promises, over rows in memory and over the event tables."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.attribution.adapters.lake import LakeJourneyLog, _selected
from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.questions import Question
from services.attribution.domain.events import NO_MATCH
from services.attribution.domain.grouping import ChannelGrouping, ChannelRule
from services.attribution.limits import AttributionLimits
from services.attribution.ports import (
    Association,
    CreditKey,
    EventQuery,
    JourneyEvents,
    JourneyLog,
    TouchField,
    TouchProperty,
)
from shared.errors import Code, DomainError
from shared.filters.filter import AllOf, Comparison, Negated, Operator
from shared.identity.belonging import Stitching
from shared.identity.identity import Identity
from shared.identity.log import UnitId, empty_log
from shared.identity.policy import IdentityPolicy, IdType, StoredPolicy
from shared.identity.reader import IdentityReader
from shared.lake.layout import unit_key
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.watermark import ConsistencyToken
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
START_US = 1_767_225_600_000_000
NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
BUY = EventQuery("acme", "buy", "user", identified=True)

TOUCH_FIELDS = (
    "channel",
    "campaign_source",
    "medium",
    "campaign",
    "content",
    "term",
    "interaction",
    "cost",
    "currency",
)

Row = dict[str, Any]
MakeLog = Callable[..., JourneyLog]
# Two users may be one identity, so that the rule for those can be seen.
POLICY = StoredPolicy(IdentityPolicy((IdType("user", 2),)), 1)


def memory_log(
    _: Path,
    touches: Sequence[TouchRow],
    bought: Sequence[ConversionRow],
    links: Sequence[Row] = (),
) -> JourneyLog:
    log = empty_log()
    if links:
        log = log.extended(table_of("identifies", links))
    return MemoryJourneyLog(touches, bought, NOW, Identity(log, POLICY))


def lake_log(
    folder: Path,
    touches: Sequence[TouchRow],
    bought: Sequence[ConversionRow],
    links: Sequence[Row] = (),
) -> JourneyLog:
    writer = LakeWriter(folder, "journal-a", FixedClock(NOW))
    rows = {
        "identifies": table_of("identifies", links),
        "touchpoints": table_of(
            "touchpoints",
            [common(row) | {name: getattr(row, name) for name in TOUCH_FIELDS} for row in touches],
        ),
        "conversions": table_of(
            "conversions",
            [
                common(row)
                | {"event_name": row.event_name, "value": row.value, "currency": row.currency}
                for row in bought
            ],
        ),
    }
    if touches or bought or links:
        writer.append({name: table for name, table in rows.items() if table.num_rows}, 1)
    return LakeJourneyLog(LakeEventTables(folder), IdentityReader(FixedPolicies(POLICY)))


def common(row: TouchRow | ConversionRow) -> dict[str, object]:
    return {
        "event_id": row.event_id,
        "project": row.project,
        "event_time": START + dt.timedelta(microseconds=row.time_us - START_US),
        "unit_type": row.unit_type,
        "unit_id": row.unit_id,
        "source": row.source,
        "properties": dict(row.properties) or None,
        "linked_units": [{"type": of, "id": unit_id} for of, unit_id in row.linked] or None,
    }


def link(event_id: str, one: UnitId, other: UnitId, second: float, **more: Any) -> Row:
    ends = {"other_unit_type": other[0], "other_unit_id": other[1]}
    time = START + dt.timedelta(seconds=second)
    row = {"event_id": event_id, "project": "acme", "event_time": time}
    return row | {"unit_type": one[0], "unit_id": one[1]} | ends | more


@pytest.fixture(params=[memory_log, lake_log])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLog:
    return lambda *rows: request.param(tmp_path / "lake", *rows)


def touch(event_id: str, unit: str, second: float, channel: str = "ads", **more: Any) -> TouchRow:
    fields = {"project": "acme"} | more
    time_us = START_US + int(second * 1_000_000)
    return TouchRow(event_id, unit_id=unit, time_us=time_us, channel=channel, **fields)


def conversion(event_id: str, unit: str, second: float, **more: Any) -> ConversionRow:
    fields = {"project": "acme", "event_name": "buy"} | more
    time_us = START_US + int(second * 1_000_000)
    return ConversionRow(event_id, unit_id=unit, time_us=time_us, **fields)


def all_rows(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def test_rows_are_sorted_by_unit_then_time_then_event_id(make: MakeLog) -> None:
    events = make(
        [
            touch("t3", "b", 5),
            touch("t2", "b", 5),
            touch("t9", "a", 7),
            touch("t1", "B", 9),
            touch("t4", "b", 4),
            touch("t5", "é", 0),
        ],
        [conversion("c2", "b", 8), conversion("c1", "b", 8), conversion("c3", "0", 9)],
    ).read(BUY)

    assert events.touch_ids.at(all_rows(6)) == ["t1", "t9", "t4", "t2", "t3", "t5"]
    assert events.conversion_ids.at(all_rows(3)) == ["c3", "c1", "c2"]
    assert events.unit_ids.at(all_rows(3)) == ["0", "b", "b"]
    # Units are numbered over both tables: 0, B, a, b, é.
    assert events.touches.units.tolist() == [1, 2, 3, 3, 3, 4]
    assert events.conversions.units.tolist() == [0, 3, 3]
    assert events.units.at(all_rows(5)) == ["0", "B", "a", "b", "é"]


def test_ids_decide_what_is_first_at_one_instant_where_they_are_not_asked_for(
    make: MakeLog,
) -> None:
    touches = [touch(f"t{9 - n}", "ab"[n % 2], 5, channel=f"channel {n}") for n in range(6)]
    touches.append(touch("t0", "b", 4, channel="first"))

    events = make(touches, [conversion("c1", "b", 8)]).read(replace(BUY, identified=False))

    found = [events.touches.channels[code] for code in events.touches.codes.tolist()]
    assert found == [
        *(f"channel {n}" for n in (4, 2, 0)),
        "first",
        *("channel 5", "channel 3", "channel 1"),
    ]


def test_touches_of_units_that_convert_are_all_that_is_read_where_no_others_are_asked_for(
    make: MakeLog,
) -> None:
    touches = [
        touch("t1", "a", 1, channel="ads"),
        touch("t2", "b", 5, channel="mail"),
        touch("t3", "b", 5, channel="ads"),
        touch("t4", "c", 2, channel="tv"),
        touch("t5", "phone", 3, channel="shop", unit_type="device"),
    ]
    bought = [
        conversion("c1", "b", 8, value=1.0),
        conversion("c2", "a", 8, event_name="visit"),
        conversion("c3", "d", 9, value=2.0),
    ]
    links = [link("i1", ("device", "phone"), ("user", "b"), 0)]

    for identified in (True, False):
        query = replace(BUY, identified=identified, converting=True)
        events = make(touches, bought, links).read(query)

        found = [events.touches.channels[code] for code in events.touches.codes.tolist()]
        assert found == ["shop", "mail", "ads"]
        assert events.touches.channels == ("ads", "mail", "shop")
        assert events.touches.units.tolist() == [0, 0, 0]
        assert events.units.at(all_rows(2)) == ["b", "d"]
        assert events.conversions.units.tolist() == [0, 1]
        if identified:
            assert events.touch_ids.at(all_rows(3)) == ["t5", "t2", "t3"]


def test_times_are_microseconds_and_names_are_taken_in_any_order(make: MakeLog) -> None:
    events = make([touch("t1", "a", 0.000001), touch("t2", "a", -1)], []).read(BUY)

    assert events.touches.times.tolist() == [START_US - 1_000_000, START_US + 1]
    assert events.touch_ids.at(np.array([1, 0, 1])) == ["t1", "t2", "t1"]


def test_only_the_project_the_unit_type_and_the_event_name_are_read(make: MakeLog) -> None:
    events = make(
        [
            touch("t1", "a", 1),
            touch("t2", "a", 1, project="other"),
            touch("t3", "a", 1, unit_type="device"),
        ],
        [
            conversion("c1", "a", 2),
            conversion("c2", "a", 2, project="other"),
            conversion("c3", "a", 2, unit_type="device"),
            conversion("c4", "a", 2, event_name="visit"),
        ],
    ).read(BUY)

    assert events.touch_ids.at(all_rows(len(events.touches))) == ["t1"]
    assert events.conversion_ids.at(all_rows(len(events.conversions))) == ["c1"]


def test_the_first_instant_is_in_and_the_last_is_out(make: MakeLog) -> None:
    log = make(
        [touch("t1", "a", 1), touch("t2", "a", 2), touch("t3", "a", 3)],
        [conversion("c1", "a", 1.999999), conversion("c2", "a", 2), conversion("c3", "a", 3)],
    )

    second = 1_000_000
    events = log.read(
        EventQuery(
            "acme",
            "buy",
            "user",
            from_us=START_US + 2 * second,
            until_us=START_US + 3 * second,
            identified=True,
        )
    )

    assert events.touch_ids.at(all_rows(len(events.touches))) == ["t2"]
    assert events.conversion_ids.at(all_rows(len(events.conversions))) == ["c2"]


def test_a_time_range_reads_the_files_of_its_days_only(tmp_path: Path) -> None:
    day = 86_400
    lake_log(tmp_path, [touch(f"t{n}", "a", n * day) for n in range(5)], [])
    from_us = START_US + (2 * day - 1) * 1_000_000
    until_us = START_US + (2 * day + 2) * 1_000_000
    query = EventQuery("acme", "buy", "user", from_us=from_us, until_us=until_us)

    with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
        rows = _selected(tables["touchpoints"], query)
        plan = str(rows.get_backend().raw_sql(f"EXPLAIN ANALYZE {rows.compile()}").fetchall())
        assert rows.event_id.to_pyarrow().to_pylist() == ["t2"]
    assert "2/5" in plan, plan


def test_a_bound_before_the_first_year_is_no_bound(make: MakeLog) -> None:
    log = make([touch("t1", "a", 1)], [])

    assert len(log.read(EventQuery("acme", "buy", "user", from_us=-(2**62))).touches) == 1


def test_channels_are_sorted_and_each_is_used(make: MakeLog) -> None:
    events = make(
        [touch("t1", "a", 1, "search"), touch("t2", "a", 2, "Ads"), touch("t3", "a", 3, "search")],
        [],
    ).read(BUY)

    assert events.touches.channels == ("Ads", "search")
    assert events.touches.codes.tolist() == [1, 0, 1]


def test_what_was_not_sent(make: MakeLog) -> None:
    events = make(
        [touch("t1", "a", 1, cost=2.5, currency="EUR"), touch("t2", "a", 2, currency="SEK")],
        [conversion("c1", "a", 1), conversion("c2", "a", 2, value=4.0, currency="USD")],
    ).read(BUY)

    np.testing.assert_array_equal(events.touches.costs, [2.5, np.nan])
    assert events.conversions.values.tolist() == [0.0, 4.0]
    assert events.currencies == ("EUR", "USD")


PAID = Comparison("medium", Operator.IN, ("cpc", "paid"))
GROUPING = ChannelGrouping(
    (
        ChannelRule(PAID, "Paid"),
        ChannelRule(Comparison("channel", Operator.MATCHES, ("^e-?mail$",)), "Mail"),
        ChannelRule(Comparison("cost", Operator.GREATER, (1.0,)), "Dear"),
    ),
)
GROUPED = [
    touch("t1", "a", 1, "x", medium="cpc", cost=5.0),
    touch("t2", "a", 2, "e-mail"),
    touch("t3", "a", 3, "y", cost=2.0),
    touch("t4", "a", 4, "z", cost=1.0),
]


def credited(events: JourneyEvents) -> list[str]:
    return [events.touches.channels[code] for code in events.touches.codes.tolist()]


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        (GROUPING, ["Paid", "Mail", "Dear", "z"]),
        (replace(GROUPING, otherwise="Other"), ["Paid", "Mail", "Dear", "Other"]),
        (ChannelGrouping((), "All"), ["All"] * 4),
    ],
)
def test_the_first_rule_that_a_touch_fulfils_names_its_channel(
    make: MakeLog, grouping: ChannelGrouping, expected: list[str]
) -> None:
    assert credited(make(GROUPED, []).read(replace(BUY, grouping=grouping))) == expected


def test_the_filter_of_touches_sees_the_grouped_channel(make: MakeLog) -> None:
    mail = Comparison("channel", Operator.EQUAL, ("Mail",))
    query = replace(BUY, grouping=GROUPING, touch_filter=Negated(mail))
    assert credited(make(GROUPED, []).read(query)) == ["Paid", "Dear", "z"]


def test_conversions_are_filtered_by_value_and_properties(make: MakeLog) -> None:
    log = make(
        [],
        [
            conversion("c1", "a", 1, value=5.0, properties={"plan": "gold"}),
            conversion("c2", "a", 2, value=5.0, properties={"plan": "iron"}),
            conversion("c3", "a", 3, value=1.0, properties={"plan": "gold"}),
            conversion("c4", "a", 4),
        ],
    )
    gold = Comparison("properties.plan", Operator.EQUAL, ("gold",))
    dear = Comparison("value", Operator.GREATER, (2.0,))
    events = log.read(replace(BUY, conversion_filter=AllOf((gold, dear))))
    assert events.conversion_ids.at(all_rows(len(events.conversions))) == ["c1"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (TouchField.CHANNEL, ["x", "y"]),
        (TouchField.CAMPAIGN, ["spring", "(not set)"]),
        (TouchField.SOURCE_MEDIUM, ["google / cpc", "(not set) / (not set)"]),
        (TouchField.INTERACTION, ["click", "(not set)"]),
        (TouchField.CONTENT, ["(not set)", "blue"]),
        (TouchProperty("employee"), ["e7", "(not set)"]),
    ],
)
def test_what_is_credited(make: MakeLog, key: CreditKey, expected: list[str]) -> None:
    sent = {"campaign": "spring", "campaign_source": "google", "medium": "cpc"}
    log = make(
        [
            touch("t1", "a", 1, "x", interaction="click", properties={"employee": "e7"}, **sent),
            touch("t2", "a", 2, "y", content="blue", campaign="", properties={"employee": 7.0}),
        ],
        [],
    )
    assert credited(log.read(replace(BUY, credited=key))) == expected


def test_facets_are_the_channel_and_the_interaction(make: MakeLog) -> None:
    log = make([touch("t1", "a", 1, "y", interaction="view"), touch("t2", "a", 2, "x")], [])
    query = replace(BUY, credited=TouchField.CAMPAIGN, faceted=True)
    facets = log.read(query).touches.facets

    assert facets is not None
    assert (facets.channels, facets.channel_codes.tolist()) == (("x", "y"), [1, 0])
    assert (facets.interactions, facets.interaction_codes.tolist()) == (("", "view"), [1, 0])


def test_what_touches_and_conversions_agree_in_is_one_code(make: MakeLog) -> None:
    pairs = (Association("product", "item"), Association("shop", "shop"))
    touches = [
        touch("t1", "a", 1, properties={"product": "7", "shop": True}),
        touch("t2", "a", 2, properties={"product": 7.0, "shop": True}),
        touch("t3", "a", 3, properties={"product": "7"}),
        touch("t4", "a", 4, properties={"product": None, "shop": True}),
    ]
    bought = [
        conversion("c1", "a", 5, properties={"item": "7", "shop": True}),
        conversion("c2", "a", 6, properties={"item": "7", "shop": False}),
        conversion("c3", "a", 7),
    ]
    events = make(touches, bought).read(replace(BUY, associations=pairs))

    touched, converted = events.touches.matches, events.conversions.matches
    assert touched is not None
    assert converted is not None
    agree = [[one == other != NO_MATCH for other in touched.tolist()] for one in converted.tolist()]
    assert agree == [[True, False, False, False], [False] * 4, [False] * 4]
    assert touched.tolist()[2:] == [NO_MATCH, NO_MATCH]


def test_milestones_are_those_of_units_with_touches_or_conversions(make: MakeLog) -> None:
    rows = [
        conversion("m3", "b", 3, event_name="lead"),
        conversion("m2", "a", 2, event_name="opportunity"),
        conversion("m1", "a", 1, event_name="lead"),
        conversion("m4", "nobody", 1, event_name="lead"),
        conversion("m5", "a", 1, event_name="visit"),
        conversion("c1", "b", 4),
    ]
    query = replace(BUY, milestones=("lead", "opportunity"))
    events = make([touch("t1", "a", 1)], rows).read(query)

    found = events.milestones
    assert found.names == query.milestones
    assert found.units.tolist() == [0, 0, 1]
    assert found.codes.tolist() == [0, 1, 0]
    assert ((found.times - START_US) // 1_000_000).tolist() == [1, 2, 3]
    assert events.conversion_ids.at(all_rows(len(events.conversions))) == ["c1"]


def test_a_project_without_events_gives_empty_columns(make: MakeLog) -> None:
    events = make([], []).read(BUY)

    assert len(events.touches) == len(events.conversions) == 0
    assert events.touches.channels == events.currencies == ()


def owners(make: MakeLog, stitching: Stitching, *links: Row) -> dict[str, str]:
    """The unit of each conversion, through all the ways that lead to one."""
    rows = [
        conversion("direct", "ann", 50),
        conversion("early", "phone", 5, unit_type="device"),
        conversion("late", "phone", 50, unit_type="device"),
        conversion("said", "phone", 5, unit_type="device", linked=(("user", "bob"),)),
        conversion("session", "tv", 50, unit_type="device", linked=(("session", "s"),)),
        conversion("other", "bob", 50),
    ]
    events = make([], rows, links).read(replace(BUY, stitching=stitching))
    every = all_rows(len(events.conversions))
    names = zip(events.conversion_ids.at(every), events.unit_ids.at(every), strict=True)
    return dict(names)


def test_without_links_an_event_is_its_own_units_or_the_one_that_it_names(make: MakeLog) -> None:
    expected = {"direct": "ann", "other": "bob", "said": "bob"}
    for stitching in Stitching:
        assert owners(make, stitching) == expected


def test_links_lead_to_the_unit_of_the_type(make: MakeLog) -> None:
    links = (
        link("l1", ("device", "phone"), ("user", "ann"), 10),
        link("l2", ("session", "s"), ("user", "ann"), 20),
    )
    later = {"direct": "ann", "late": "ann", "said": "bob", "session": "ann", "other": "bob"}
    assert owners(make, Stitching.POINT_IN_TIME, *links) == later


def test_links_count_for_what_came_before_unless_a_point_in_time_is_asked_for(
    make: MakeLog,
) -> None:
    link_of_phone = link("l1", ("device", "phone"), ("user", "ann"), 10)
    found = owners(make, Stitching.RETROACTIVE, link_of_phone)
    assert found == {"direct": "ann", "early": "ann", "late": "ann", "said": "bob", "other": "bob"}


def test_units_of_one_identity_are_one_journey(make: MakeLog) -> None:
    links = (
        link("l1", ("device", "phone"), ("user", "bob"), 10),
        link("l2", ("device", "phone"), ("user", "ann"), 20),
    )
    found = owners(make, Stitching.RETROACTIVE, *links)
    assert set(found.values()) == {"bob"}


def test_units_are_one_journey_from_the_link_on_at_a_point_in_time(make: MakeLog) -> None:
    then = owners(make, Stitching.POINT_IN_TIME, link("l3", ("user", "bob"), ("user", "ann"), 60))
    assert (then["direct"], then["other"]) == ("ann", "bob")


def test_the_identity_that_was_used_is_said(make: MakeLog) -> None:
    linked = link("l1", ("device", "phone"), ("user", "ann"), 10)
    assert make([], [conversion("c", "ann", 1)], [linked]).read(BUY).identity_version[:5] == "p1-e1"


def test_without_links_no_identity_is_said(make: MakeLog) -> None:
    assert make([], [conversion("c", "ann", 1)]).read(BUY).identity_version == ""


async def test_the_watermark_is_a_token_for_the_same_cut(make: MakeLog) -> None:
    log = make([touch("t1", "a", 1)], [conversion("c1", "a", 2)])
    events = log.read(BUY)

    await log.wait_until(events.watermark, 0.01)
    again = log.read(BUY)

    assert events.watermark
    assert again.watermark == events.watermark
    assert events.watermark_time == NOW


async def test_a_bad_token_is_refused(make: MakeLog) -> None:
    log = make([touch("t1", "a", 1)], [])

    with pytest.raises(DomainError) as refusal:
        await log.wait_until("nonsense", 10)
    assert (refusal.value.code, refusal.value.reason) == (
        Code.INVALID_ARGUMENT,
        "INVALID_CONSISTENCY_TOKEN",
    )


async def test_a_cut_that_is_not_there_yet_is_waited_for_in_vain(tmp_path: Path) -> None:
    rows = [touch("t1", "a", 1)]
    later = {
        memory_log(tmp_path, rows, []): "memory:2",
        lake_log(tmp_path, rows, []): ConsistencyToken("journal-a", 2).encode(),
    }
    for log, token in later.items():
        with pytest.raises(DomainError) as refusal:
            await log.wait_until(token, 0.05)
        assert (refusal.value.code, refusal.value.reason) == (Code.UNAVAILABLE, "NOT_YET_FRESH")


def test_units_are_told_apart_by_their_ids_not_their_keys(make: MakeLog) -> None:
    events = make([touch("t1", "1", 1), touch("t2", "01", 1), touch("t3", "1 ", 1)], []).read(BUY)

    assert len({unit_key("user", unit) for unit in ("1", "01", "1 ")}) == 3
    assert len(set(events.touches.units.tolist())) == 3


def test_a_log_before_its_first_event_has_no_watermark(tmp_path: Path) -> None:
    unwritten = LakeJourneyLog(LakeEventTables(tmp_path), IdentityReader(FixedPolicies()))
    for log in (memory_log(tmp_path, [], []), unwritten):
        events = log.read(BUY)
        assert (events.watermark, events.watermark_time) == ("", None)


def test_the_answer_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    generator = np.random.default_rng(11)
    touches = [
        touch(f"t{n}", f"u{n % 40}", int(second), f"channel{int(channel)}", cost=float(cost))
        for n, (second, channel, cost) in enumerate(
            zip(
                generator.integers(0, 50, 400),
                generator.integers(0, 6, 400),
                generator.random(400),
                strict=True,
            )
        )
    ]
    bought = [
        conversion(f"c{n}", f"u{n}", 30.0 + n, value=float(value))
        for n, value in enumerate(generator.random(30))
    ]
    question = Question("acme", JourneyDefinition("buy"))

    answers = []
    for order in (1, -1):
        log = lake_log(tmp_path / f"lake{order}", touches[::order], bought[::order])
        answers.append(get_attribution(GetAttribution(question), log, AttributionLimits()))

    assert answers[0].tables == answers[1].tables
    assert answers[0].statistics.counts.converting > 20
