"""The promises of MetricStore, MetricReader and MetricWriter, over every supported database."""

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
import sqlalchemy as sa
from touchstone.results.v1 import metric_service_pb2 as pb

from services.results.adapters.sql import (
    SqlMetricReader,
    SqlMetricStore,
    SqlMetricWriter,
    migrate_metrics,
    versions,
)
from services.results.domain.measure import Aggregation, Cap, Measure, MetricKind, Retention, Source
from services.results.domain.metric import Direction, Metric, MetricDefinition, MetricRole
from services.results.ports import MetricStore
from shared.errors import Code, DomainError
from shared.filters.filter import AllOf, AnyOf, Comparison, Negated, Operator
from shared.mutations import Mutation, Mutations
from shared.security.audit import AuditKeys
from shared.state.database import Database
from shared.state.platform import migrate_platform
from shared.testing.fakes import FixedClock, calling

R = TypeVar("R")
START = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
BIG = AllOf(
    (
        AnyOf(
            (
                Comparison("properties.plan ✓", Operator.IN, ("gold", 1.0, True)),
                Comparison("value", Operator.GREATER, (0.1,)),
            )
        ),
        Negated(Comparison("source", Operator.IS_SET)),
    )
)
SPEND = Measure(
    kind=MetricKind.RATIO,
    event_name="purchase",
    window=dt.timedelta(days=7, microseconds=1),
    filter=BIG,
    aggregation=Aggregation.MAX,
    currency="EUR",
    delay=dt.timedelta(hours=2),
    denominator=Source("visit", BIG, Aggregation.COUNT),
    cap=Cap(percentile=0.999, ignore_zeros=True),
    lookback=dt.timedelta(days=28),
    covariates=(Source("visit", aggregation=Aggregation.DISTINCT_DAYS),),
    complete_only=True,
)
FULL = MetricDefinition(
    measure=SPEND,
    direction=Direction.DECREASE,
    role=MetricRole.GUARDRAIL,
    margin=0.02,
    minimum_effect=0.01,
    display_name="Größe ✓",
    description="What one customer spends.",
)
KINDS = (
    Measure(MetricKind.PROPORTION, "visit"),
    Measure(MetricKind.MEAN, "purchase", cap=Cap(absolute=99.5)),
    Measure(MetricKind.QUANTILE, "loaded", quantile=0.95, of_events=True),
    Measure(MetricKind.FUNNEL, "seen", filter=BIG, steps=(Source("seen", BIG), Source("paid"))),
    Measure(MetricKind.RETENTION, "visit", retention=Retention(0, 7)),
    Measure(MetricKind.TIME_TO_EVENT, "paid", window=dt.timedelta(hours=36)),
)


@pytest.fixture
def store(database: Database) -> Database:
    migrate_platform(database)
    migrate_metrics(database)
    return database


def metric(metric_id: str = "revenue", project: str = "acme", **changes: object) -> Metric:
    made = Metric(project, metric_id, FULL, 1, START, START)
    return replace(made, **changes)  # type: ignore[arg-type]


def write(database: Database, work: Callable[[MetricStore], R]) -> R:
    with database.begin() as connection:
        return work(SqlMetricStore(connection))


def read(database: Database, work: Callable[[MetricStore], R]) -> R:
    with SqlMetricReader(database).read() as store:
        return work(store)


def insert(database: Database, made: Metric) -> None:
    write(database, lambda s: s.insert(made))


def get(database: Database, project: str, metric_id: str) -> Metric | None:
    return read(database, lambda s: s.get(project, metric_id))


def swap(database: Database, old: Metric, new: Metric) -> None:
    write(database, lambda s: s.replace(old, new))


def test_what_was_inserted_comes_back_equal(store: Database) -> None:
    kinds = [metric(m.kind.value, definition=MetricDefinition(m)) for m in KINDS]
    for one in (metric(), *kinds):
        insert(store, one)
        assert get(store, "acme", one.metric_id) == one


def test_versions_come_newest_first_below_a_number(store: Database) -> None:
    made = metric()
    insert(store, made)
    insert(store, metric("other"))
    for version in (2, 3):
        changed = replace(
            made,
            version=version,
            definition=replace(FULL, display_name=f"version {version}"),
        )
        swap(store, made, changed)
        made = changed
    found = read(store, lambda s: s.versions("acme", "revenue", 10, 2))
    assert [(number, one.display_name) for number, one in found] == [
        (3, "version 3"),
        (2, "version 2"),
    ]
    assert read(store, lambda s: s.versions("acme", "revenue", 2, 2)) == [(1, FULL)]
    assert read(store, lambda s: s.versions("acme", "none", 10, 2)) == []


def test_constants_keep_their_type(store: Database) -> None:
    mixed = Comparison("properties.x", Operator.IN, (True, 1.0, "1", False, 0.0))
    measure = Measure(MetricKind.PROPORTION, "visit", filter=mixed)
    insert(store, metric(definition=MetricDefinition(measure)))
    found = get(store, "acme", "revenue")
    assert found is not None
    assert isinstance(found.definition.measure.filter, Comparison)
    values = found.definition.measure.filter.values
    assert [type(value) for value in values] == [bool, float, str, bool, float]


@pytest.mark.parametrize(
    ("kind", "currency", "kept"), [("mean", "EUR", "EUR"), ("proportion", "EUR", "")]
)
def test_a_definition_from_before_there_were_documents_is_read(
    store: Database, kind: str, currency: str, kept: str
) -> None:
    insert(store, metric())
    with store.begin() as connection:
        connection.execute(sa.update(versions).values(document=None, kind=kind, currency=currency))
    found = get(store, "acme", "revenue")
    assert found is not None
    assert found.definition == MetricDefinition(
        Measure(MetricKind(kind), "purchase", dt.timedelta(days=7, microseconds=1), currency=kept),
        Direction.DECREASE,
        MetricRole.GUARDRAIL,
        display_name="Größe ✓",
        description="What one customer spends.",
    )


def test_a_document_of_a_newer_program_is_not_guessed_at(store: Database) -> None:
    insert(store, metric())
    with store.begin() as connection:
        connection.execute(sa.update(versions).values(document='{"format": 2}'))
    with pytest.raises(DomainError, match="run the newer version"):
        get(store, "acme", "revenue")


def test_absent_is_none_and_ids_are_compared_exactly(store: Database) -> None:
    insert(store, metric("revenue"))
    for project, metric_id in (("acme", "REVENUE"), ("acme", "revenue "), ("other", "revenue")):
        assert get(store, project, metric_id) is None


def test_a_taken_id_is_refused_even_when_archived(store: Database) -> None:
    insert(store, metric(archive_time=START))
    with pytest.raises(DomainError) as caught:
        insert(store, metric())
    assert caught.value.code is Code.ALREADY_EXISTS
    insert(store, metric(project="other"))


def test_every_version_is_kept(store: Database) -> None:
    old = metric()
    new = replace(old, definition=replace(FULL, margin=0.5), version=2)
    insert(store, old)
    swap(store, old, new)
    assert get(store, "acme", "revenue") == new
    assert read(store, lambda s: s.definition("acme", "revenue", 1)) == FULL
    assert read(store, lambda s: s.definition("acme", "revenue", 2)) == new.definition
    assert read(store, lambda s: s.definition("acme", "revenue", 3)) is None


def test_a_stale_replacement_is_aborted_and_changes_nothing(store: Database) -> None:
    old = metric()
    new = replace(old, version=2)
    archived = replace(old, archive_time=START)
    insert(store, old)
    swap(store, old, archived)
    for stale in (new, replace(old, version=9)):
        with pytest.raises(DomainError) as caught:
            swap(store, stale, replace(stale, version=10))
        assert caught.value.code is Code.ABORTED
    with pytest.raises(DomainError):
        swap(store, old, new)
    assert get(store, "acme", "revenue") == archived


def test_pages_are_ordered_by_code_point_and_bounded(store: Database) -> None:
    ids = ["b", "a-b", "a_b", "ab", "a"]
    for metric_id in ids:
        insert(store, metric(metric_id))
    insert(store, metric("aa", archive_time=START))
    insert(store, metric("a", project="other"))

    def page(after: str, limit: int, archived: bool = False) -> list[str]:
        found = read(store, lambda s: s.page("acme", after, limit, archived))
        return [one.metric_id for one in found]

    assert page("", 10) == sorted(ids)
    assert page("", 2) == sorted(ids)[:2]
    assert page("a_b", 10) == ["ab", "b"]
    assert page("", 10, archived=True) == sorted([*ids, "aa"])


def test_two_writers_of_one_metric_do_not_lose_a_change(store: Database) -> None:
    insert(store, metric())
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def change() -> None:
        old = get(store, "acme", "revenue")
        assert old is not None
        barrier.wait()
        try:
            swap(store, old, replace(old, version=old.version + 1))
            outcomes.append("done")
        except DomainError as error:
            outcomes.append(error.code.value)

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ABORTED", "done"]


def test_a_closed_store_says_so(store: Database) -> None:
    store.close()
    with pytest.raises(DomainError) as caught:
        get(store, "acme", "revenue")
    assert caught.value.code is Code.UNAVAILABLE


def test_the_writer_repeats_answers_and_undoes_a_trial(store: Database) -> None:
    writer = SqlMetricWriter(Mutations(store, AuditKeys((b"k" * 32,)), FixedClock(START)))
    method = "/touchstone.results.v1.MetricService/CreateMetric"
    calls: list[str] = []

    def work(found: MetricStore) -> pb.CreateMetricResponse:
        calls.append("work")
        found.insert(metric(project="demo"))
        return pb.CreateMetricResponse()

    with calling(method):
        request = pb.CreateMetricRequest(parent="projects/demo", metric_id="revenue")
        writer.write(Mutation(request, "x", "once", validate_only=True), work)
        assert get(store, "demo", "revenue") is None
        writer.write(Mutation(request, "x", "once"), work)
        writer.write(Mutation(request, "x", "once"), work)
    assert calls == ["work", "work"]
    assert get(store, "demo", "revenue") is not None
