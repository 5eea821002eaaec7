"""The promises of the assignment ports, over every database that is supported."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from touchstone_assignment.bucketing import HashVersion
from touchstone_assignment.subject import Subject

from services.assignment.adapters.sql import (
    SqlConfiguration,
    SqlConfigurationReader,
    migrate_assignment,
)
from services.assignment.application.snapshots import compile_snapshot
from services.assignment.domain.experiment import (
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from services.assignment.domain.layer import Layer
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.revision import Revision
from services.assignment.ports import Configuration, ExperimentCursor
from services.assignment.wire.ruleset import to_ruleset
from shared.errors import Code, DomainError
from shared.state.database import Database

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
T = TypeVar("T")
ALL = tuple(State)
REST = timedelta(days=7)


@pytest.fixture
def store(database: Database) -> Database:
    migrate_assignment(database)
    return database


def experiment(
    experiment_id: str = "button",
    project: str = "acme",
    version: int = 1,
    minutes: int = 0,
    **changes: Any,
) -> Experiment:
    time = START + timedelta(minutes=minutes)
    design = Design(
        display_name="Größe ✓",
        hypothesis="",
        owner="ada",
        unit_type="user",
        layer="checkout",
        source=AssignmentSource.SLOTS,
        hash_version=HashVersion.FLAGD_V3,
        salt="split/button",
        traffic_slots=400,
        variants=(Variant("a", 2500, "A", '{"x":[1,2.5,null]}'), Variant("b", 7500)),
        control="a",
    )
    base = Experiment(project, experiment_id, design, State.DRAFT, version, time, time)
    return replace(base, **changes)


def layer(layer_id: str = "checkout", project: str = "acme", version: int = 1) -> Layer:
    return Layer(
        project, layer_id, "Kasse", "user", "layer/checkout", HashVersion.FLAGD_V2, version, START
    )


@contextmanager
def writing(database: Database) -> Iterator[Configuration]:
    with database.begin() as connection:
        yield SqlConfiguration(connection)


def reading(database: Database) -> AbstractContextManager[Configuration]:
    return SqlConfigurationReader(database).read()


def insert(database: Database, *things: Experiment | Layer) -> None:
    with writing(database) as configuration:
        for thing in things:
            if isinstance(thing, Layer):
                configuration.layers.insert(thing)
            else:
                configuration.experiments.insert(thing)


def read(database: Database, work: Callable[[Configuration], T]) -> T:
    with reading(database) as configuration:
        return work(configuration)


def write(database: Database, work: Callable[[Configuration], T]) -> T:
    with writing(database) as configuration:
        return work(configuration)


def stored(database: Database, experiment_id: str = "button", project: str = "acme") -> Experiment:
    found = read(database, lambda c: c.experiments.get(project, experiment_id))
    assert found is not None
    return found


def stored_layer(database: Database) -> Layer:
    found = read(database, lambda c: c.layers.get("acme", "checkout"))
    assert found is not None
    return found


def test_what_was_inserted_comes_back_equal(store: Database) -> None:
    started = experiment(start_time=START, stop_time=START + REST, state=State.STOPPED)
    cut = layer().allocate("button", 400, Revision(2, START)).release("button", REST, at(3))
    insert(store, started, cut)
    assert stored(store) == started
    assert stored_layer(store) == cut


def at(version: int) -> Revision:
    return Revision(version, START + timedelta(hours=version))


def test_what_is_beyond_todays_limits_is_read_back_all_the_same(store: Database) -> None:
    """A limit may be lowered; what was accepted before goes on being listed and decided."""
    payload = '{"x":"' + "y" * 2 * LIMITS.max_payload_bytes + '"}'
    many = tuple(Variant(f"v{n}", 50, payload=payload if n == 0 else None) for n in range(200))
    design = replace(experiment().design, variants=many, control="v0", unit_type="Old Kind")
    old = experiment(design=design)
    insert(store, layer(), old)
    assert stored(store) == old
    assert read(store, lambda c: c.experiments.page("acme", [*State], None, 10)) == [old]
    assert read(store, lambda c: c.load("acme")).experiments == {"button": old}


def test_what_a_project_lacks_is_absent_whatever_others_have(store: Database) -> None:
    insert(store, experiment(), layer())
    assert read(store, lambda c: c.experiments.get("other", "button")) is None
    assert read(store, lambda c: c.layers.get("other", "checkout")) is None
    assert read(store, lambda c: c.experiments.page("other", ALL, None, 10)) == []
    assert read(store, lambda c: c.layers.page("other", "", 10)) == []
    insert(store, experiment(project="other"))
    assert stored(store, project="other").project == "other"


def test_a_taken_id_is_refused_and_the_first_one_stays(store: Database) -> None:
    insert(store, experiment(), layer())
    for thing in (experiment(version=2), layer(version=2)):
        with pytest.raises(DomainError) as caught:
            insert(store, thing)
        assert (caught.value.code, caught.value.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert stored(store) == experiment()


def test_case_sensitivity(store: Database) -> None:
    insert(store, experiment("button"), experiment("Button"), layer("checkout"))
    assert read(store, lambda c: c.experiments.get("acme", "BUTTON")) is None
    assert read(store, lambda c: c.experiments.get("acme", "button ")) is None
    assert read(store, lambda c: c.layers.get("acme", "Checkout")) is None


def test_a_stale_replacement_is_aborted(store: Database) -> None:
    first, second = experiment(), experiment(version=2)
    cut = layer().allocate("button", 5, at(2))
    insert(store, first, layer())
    with writing(store) as configuration:
        configuration.experiments.replace(first, second)
        configuration.layers.replace(layer(), cut)
    stale: list[Callable[[Configuration], None]] = [
        lambda c: c.experiments.replace(first, experiment(version=3)),
        lambda c: c.layers.replace(layer(), layer().allocate("x", 5, at(3))),
        lambda c: c.experiments.replace(experiment("none"), experiment("none", version=3)),
    ]
    for work in stale:
        with pytest.raises(DomainError) as caught, writing(store) as configuration:
            work(configuration)
        assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")
    assert stored(store) == second
    assert stored_layer(store) == cut


def test_a_failed_transaction_leaves_nothing(store: Database) -> None:
    def work(configuration: Configuration) -> None:
        configuration.next_revision("acme", START)
        configuration.experiments.insert(experiment())
        configuration.layers.insert(layer().allocate("button", 5, at(2)))
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write(store, work)
    found = read(store, lambda c: c.load("acme"))
    assert (found.config_version, dict(found.experiments), dict(found.layers)) == (0, {}, {})


def test_experiments_page_newest_first_with_ties_by_id(store: Database) -> None:
    ids = [("a", 0), ("b-b", 1), ("b", 1), ("bb", 1), ("c", 2)]

    insert(
        store,
        *[experiment(experiment_id, minutes=minutes) for experiment_id, minutes in ids],
        experiment("old", minutes=9, state=State.ARCHIVED),
    )
    seen: list[str] = []
    below: ExperimentCursor | None = None
    states = [state for state in State if state is not State.ARCHIVED]
    with reading(store) as configuration:
        while page := configuration.experiments.page("acme", states, below, 2):
            assert len(page) <= 2
            seen += [found.experiment_id for found in page]
            below = ExperimentCursor(page[-1].create_time, page[-1].experiment_id)
    assert seen == ["c", "bb", "b-b", "b", "a"]
    archived = read(store, lambda c: c.experiments.page("acme", [State.ARCHIVED], None, 5))
    assert [found.experiment_id for found in archived] == ["old"]


def test_layers_page_by_id_in_code_point_order(store: Database) -> None:
    ids = ["a-b", "ab", "a", "b", "a1"]
    insert(store, *[layer(layer_id) for layer_id in ids])
    first = read(store, lambda c: c.layers.page("acme", "", 3))
    rest = read(store, lambda c: c.layers.page("acme", first[-1].layer_id, 3))
    assert [cut.layer_id for cut in [*first, *rest]] == sorted(ids)


def test_versions_count_up_by_project(store: Database) -> None:
    def step(project: str) -> Revision:
        return write(store, lambda c: c.next_revision(project, START))

    assert [step("acme").config_version for _ in range(3)] == [1, 2, 3]
    assert step("other") == Revision(1, START)
    assert read(store, lambda c: c.versions()) == {"acme": 3, "other": 1}


def test_a_project_can_be_loaded_as_it_was_at_any_version(store: Database) -> None:
    with writing(store) as configuration:
        configuration.next_revision("acme", START)
    insert(store, layer(), experiment())

    def move(state: State) -> None:
        with writing(store) as configuration:
            revision = configuration.next_revision("acme", START)
            old = configuration.experiments.get("acme", "button")
            cut = configuration.layers.get("acme", "checkout")
            assert old is not None
            assert cut is not None
            new = replace(old, state=state, config_version=revision.config_version)
            configuration.experiments.replace(old, new)
            changed = cut.release("button", REST, revision)
            if state is State.RUNNING:
                changed = cut.allocate("button", 10_000, revision)
            configuration.layers.replace(cut, changed)

    move(State.RUNNING)
    move(State.STOPPED)
    reasons = []
    for version in range(4):
        with reading(store) as configuration:
            found = configuration.load("acme", as_of=version)
        assert found.config_version == version
        evaluator = compile_snapshot(to_ruleset(found, "acme")).evaluator
        reasons.append(evaluator.decide("button", Subject({"user": "u1"})).reason.value)
    assert reasons == ["UNKNOWN_EXPERIMENT", "NOT_RUNNING", "SPLIT", "NOT_RUNNING"]
    now = read(store, lambda c: c.load("acme"))
    assert now.config_version == 3
    assert now.layers["checkout"].owned_by("button") == ()


def test_concurrent_writers(store: Database) -> None:
    """Eight writers of one project: every version once, every range with one owner."""
    insert(store, layer())
    versions: list[int] = []

    def grow(name: str) -> None:
        with writing(store) as configuration:
            revision = configuration.next_revision("acme", START)
            cut = configuration.layers.get("acme", "checkout")
            assert cut is not None
            configuration.layers.replace(cut, cut.allocate(name, 100, revision))
        versions.append(revision.config_version)

    threads = [threading.Thread(target=grow, args=(f"e{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 9))
    ledger = stored_layer(store).ledger
    assert sorted((row.first, row.end) for row in ledger) == [
        (start, start + 100) for start in range(0, 800, 100)
    ]


def test_a_reader_sees_one_moment(store: Database) -> None:
    write(store, lambda c: c.next_revision("acme", START))
    with reading(store) as configuration:
        assert configuration.load("acme").config_version == 1
        with writing(store) as other:
            other.next_revision("acme", START)
            other.experiments.insert(experiment())
        found = configuration.load("acme")
        assert (found.config_version, dict(found.experiments)) == (1, {})
    assert read(store, lambda c: c.load("acme")).config_version == 2


def test_use_after_close(store: Database) -> None:
    store.close()
    for use in (reading, writing):
        with pytest.raises(DomainError) as caught, use(store) as configuration:
            configuration.versions()
        assert (caught.value.code, caught.value.reason) == (
            Code.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
        )


def test_migrating_twice_keeps_the_data(store: Database) -> None:
    insert(store, experiment())
    migrate_assignment(store)
    assert stored(store) == experiment()
