"""The promises of the store of analysis plans and looks, over every supported database."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.boundaries import Look as Boundary

from services.results.adapters.plans_sql import MOST_CUTS, SqlPlanReader, cuts, migrate_plans
from services.results.domain.analysis_plan import (
    AlphaSpending,
    AnalysisMethod,
    AnalysisPlan,
    Correction,
    MetricPlan,
    StoredPlan,
)
from services.results.domain.look import Cut, Look, LookKey, Seen, Side
from services.results.domain.metric import MetricRole
from services.results.domain.observation import MultipleExposures
from services.results.domain.removed import Rows
from shared.errors import Code, DomainError
from shared.state.database import Database

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
FULL = AnalysisPlan(
    method=AnalysisMethod.HYBRID,
    alpha=0.01,
    power=0.9,
    spending=AlphaSpending.POWER,
    spending_parameter=1.5,
    planned_units=10**12,
    planned_end=NOW,
    primary_correction=Correction.PREFERENTIAL_BONFERRONI,
    secondary_correction=Correction.BENJAMINI_YEKUTIELI,
    primary_share=0.7,
    variance_reduction=False,
    prior=LiftPrior(0.01, 0.1),
    dimensions=("properties.country", "source"),
    multiple_exposures=MultipleExposures.FIRST,
    metrics=(MetricPlan("spend", MetricRole.GUARDRAIL, 0.02), MetricPlan("visits")),
    practical_equivalence=0.001,
)
KEY = LookKey("acme", "checkout", "spend", "green")


def look(number: int, key: LookKey = KEY) -> Look:
    return Look(
        key=key,
        number=number,
        boundary=Boundary(
            1000.5 * number, 0.1 * number, 1e-300 * number, None if number == 1 else 1 / 3
        ),
        p_value=None if number == 2 else 1e-12,
        seen=Seen(
            Side(0.1, 1e-300, 7.0, 0, 2, 1 / 7), Side(-1e308, 0.2, 9.0, 1, 0, 6.5), 0.3, 1 / 7
        ),
        cut=Cut("journal", 2**62 + number),
        plan_version=3,
        create_time=NOW,
    )


@pytest.fixture
def store(database: Database) -> SqlPlanReader:
    migrate_plans(database)
    return SqlPlanReader(database)


def test_an_experiment_without_a_plan_has_the_default(store: SqlPlanReader) -> None:
    with store.read() as plans:
        assert plans.current("acme", "checkout") == StoredPlan()
        assert plans.at("acme", "checkout", 0) == StoredPlan()
        assert plans.at("acme", "checkout", 1) is None


def test_every_version_stays_as_it_was_and_belongs_to_one_experiment(store: SqlPlanReader) -> None:
    first, second = StoredPlan(FULL, 1, NOW), StoredPlan(replace(FULL, alpha=0.1), 2, NOW)
    with store.begin() as plans:
        plans.add("acme", "checkout", first)
        plans.add("acme", "checkout", second)
    with store.read() as plans:
        assert [plans.at("acme", "checkout", n) for n in (1, 2)] == [first, second]
        assert plans.current("acme", "checkout") == second
        for project, experiment in (("ACME", "checkout"), ("acme", "Checkout"), ("b", "checkout")):
            assert plans.current(project, experiment).version == 0


def test_of_two_next_versions_one_is_kept(store: SqlPlanReader) -> None:
    with store.begin() as plans:
        plans.add("acme", "checkout", StoredPlan(FULL, 1, NOW))
    with pytest.raises(DomainError) as caught, store.begin() as plans:
        plans.add("acme", "checkout", StoredPlan(FULL, 1, NOW))
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")


def test_looks_come_back_to_the_last_bit_and_mark_the_experiment(store: SqlPlanReader) -> None:
    with store.begin() as plans:
        plans.add_looks([])
        plans.add_looks([look(2), look(1)])
    with store.read() as plans:
        assert plans.looks("acme", "checkout") == {KEY: [look(1), look(2)]}
        assert plans.looks("acme", "other") == {}
        assert plans.current("acme", "checkout").looked_at
        assert not plans.current("acme", "other").looked_at


def test_a_look_is_never_rewritten(store: SqlPlanReader) -> None:
    with store.begin() as plans:
        plans.add_looks([look(1)])
    other = replace(look(1), p_value=0.9)
    with pytest.raises(DomainError) as caught, store.begin() as plans:
        plans.add_looks([look(2), other])
    assert caught.value.code is Code.ABORTED
    with store.read() as plans:
        assert plans.looks("acme", "checkout") == {KEY: [look(1)]}


def test_looks_are_paged_by_metric_variant_and_number(store: SqlPlanReader) -> None:
    blue, visits = replace(KEY, variant="blue"), replace(KEY, metric_id="visits")
    taken = [look(n, key) for key in (blue, KEY, visits) for n in range(1, 12)]
    with store.begin() as plans:
        plans.add_looks(taken[::-1])
    found: list[Look] = []
    after = ("", "", 0)
    with store.read() as plans:
        while page := plans.page_of_looks("acme", "checkout", after, 4):
            found += page
            after = (page[-1].key.metric_id, page[-1].key.variant, page[-1].number)
    assert found == taken


def test_finished_comparisons_have_the_first_look_at_their_end(store: SqlPlanReader) -> None:
    blue, other = replace(KEY, variant="blue"), replace(KEY, experiment_id="banner")
    ends = [look(number, key) for key in (other, blue, KEY) for number in (9, 10, 11)]
    with store.begin() as plans:
        plans.add_looks(ends)
    with store.read() as plans:
        found = plans.finished("acme", Cut("journal", 2**62 + 11))
        assert found == [look(10, key) for key in (other, blue, KEY)]
        assert plans.finished("acme", Cut("journal", 2**62 + 10)) == []
        assert plans.finished("acme", Cut("another", 2**63 - 1)) == []
        assert plans.finished("other", Cut("journal", 2**63 - 1)) == []


def test_who_locks_an_experiment_keeps_others_waiting(store: SqlPlanReader) -> None:
    order: list[str] = []
    locked = threading.Event()

    def second() -> None:
        locked.wait(5)
        with store.begin() as plans:
            plans.lock("acme", "checkout")
            order.append(f"sees version {plans.current('acme', 'checkout').version}")

    thread = threading.Thread(target=second)
    thread.start()
    with store.begin() as plans:
        plans.lock("acme", "checkout")
        locked.set()
        thread.join(0.2)
        order.append("adds")
        plans.add("acme", "checkout", StoredPlan(FULL, 1, NOW))
    thread.join(10)
    assert order == ["adds", "sees version 1"]


def test_the_store_cannot_be_used_after_it_was_closed(database: Database) -> None:
    migrate_plans(database)
    database.close()
    with pytest.raises(DomainError) as caught, SqlPlanReader(database).read():
        pass
    assert caught.value.code is Code.UNAVAILABLE


def test_what_a_cut_held_is_noted_once_and_the_oldest_go(store: SqlPlanReader) -> None:
    first, cut = Rows(2**62, 7), Cut("journal", 2**62)
    with store.begin() as plans:
        assert plans.rows_at("acme", cut) is None
        plans.note_rows("acme", cut, first)
        plans.note_rows("acme", cut, Rows(1, 1))
    with store.read() as plans:
        assert plans.rows_at("acme", cut) == first
        for other in (("ACME", cut), ("acme", Cut("Journal", 2**62)), ("acme", Cut("journal", 1))):
            assert plans.rows_at(*other) is None
    many = [
        {
            "project": "acme",
            "journal_id": "journal",
            "position": n,
            "exposures": 1,
            "conversions": 1,
        }
        for n in range(1, MOST_CUTS)
    ]
    with store.database.begin() as connection:
        connection.execute(sa.insert(cuts), many)
    with store.begin() as plans:
        plans.note_rows("acme", Cut("journal", 2**62 + 1), first)
        assert plans.rows_at("acme", Cut("journal", 1)) is None
        assert plans.rows_at("acme", Cut("journal", 2)) == Rows(1, 1)
        assert plans.rows_at("acme", cut) == first
