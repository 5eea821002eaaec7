"""The promises of the assignment ports, over every database that is supported."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.assignment.adapters.sql import (
    SqlConfiguration,
    SqlConfigurationReader,
    migrate_assignment,
)
from services.assignment.domain.compile import compile_snapshot
from services.assignment.domain.experiment import (
    AssignmentSource,
    Design,
    Experiment,
    State,
    Variant,
)
from services.assignment.domain.layer import Layer
from services.assignment.domain.revision import Revision
from services.assignment.ports import ExperimentCursor
from shared.bucketing import HashVersion
from shared.errors import Code, DomainError

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ALL = tuple(State)
REST = timedelta(days=7)


@pytest.fixture
def store(database):
    migrate_assignment(database)
    return database


def experiment(experiment_id="button", project="acme", version=1, minutes=0, **changes):
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


def layer(layer_id="checkout", project="acme", version=1):
    return Layer(
        project, layer_id, "Kasse", "user", "layer/checkout", HashVersion.FLAGD_V2, version, START
    )


def write(database, work):
    with database.begin() as connection:
        return work(SqlConfiguration(connection))


def read(database, work):
    with SqlConfigurationReader(database).read() as configuration:
        return work(configuration)


def test_what_was_inserted_comes_back_equal(store) -> None:
    started = experiment(start_time=START, stop_time=START + REST, state=State.STOPPED)
    cut = layer().allocate("button", 400, Revision(2, START)).release("button", REST, at(3))
    write(store, lambda c: (c.experiments.insert(started), c.layers.insert(cut)))
    assert read(store, lambda c: c.experiments.get("acme", "button")) == started
    assert read(store, lambda c: c.layers.get("acme", "checkout")) == cut


def at(version: int) -> Revision:
    return Revision(version, START + timedelta(hours=version))


def test_what_a_project_lacks_is_absent_whatever_others_have(store) -> None:
    write(store, lambda c: (c.experiments.insert(experiment()), c.layers.insert(layer())))
    assert read(store, lambda c: c.experiments.get("other", "button")) is None
    assert read(store, lambda c: c.layers.get("other", "checkout")) is None
    assert read(store, lambda c: c.experiments.page("other", ALL, None, 10)) == []
    assert read(store, lambda c: c.layers.page("other", "", 10)) == []
    write(store, lambda c: c.experiments.insert(experiment(project="other")))
    assert read(store, lambda c: c.experiments.get("other", "button")).project == "other"


def test_a_taken_id_is_refused_and_the_first_one_stays(store) -> None:
    write(store, lambda c: (c.experiments.insert(experiment()), c.layers.insert(layer())))
    for work in (
        lambda c: c.experiments.insert(experiment(version=2)),
        lambda c: c.layers.insert(layer(version=2)),
    ):
        with pytest.raises(DomainError) as caught:
            write(store, work)
        assert (caught.value.code, caught.value.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert read(store, lambda c: c.experiments.get("acme", "button")) == experiment()


def test_case_sensitivity(store) -> None:
    write(store, lambda c: c.experiments.insert(experiment("button")))
    write(store, lambda c: c.experiments.insert(experiment("Button")))
    write(store, lambda c: c.layers.insert(layer("checkout")))
    assert read(store, lambda c: c.experiments.get("acme", "BUTTON")) is None
    assert read(store, lambda c: c.experiments.get("acme", "button ")) is None
    assert read(store, lambda c: c.layers.get("acme", "Checkout")) is None


def test_a_stale_replacement_is_aborted(store) -> None:
    first, second = experiment(), experiment(version=2)
    cut = layer().allocate("button", 5, at(2))
    write(store, lambda c: (c.experiments.insert(first), c.layers.insert(layer())))
    write(store, lambda c: (c.experiments.replace(first, second), c.layers.replace(layer(), cut)))
    for work in (
        lambda c: c.experiments.replace(first, experiment(version=3)),
        lambda c: c.layers.replace(layer(), layer().allocate("x", 5, at(3))),
        lambda c: c.experiments.replace(experiment("none"), experiment("none", version=3)),
    ):
        with pytest.raises(DomainError) as caught:
            write(store, work)
        assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")
    assert read(store, lambda c: c.experiments.get("acme", "button")) == second
    assert read(store, lambda c: c.layers.get("acme", "checkout")) == cut


def test_a_failed_transaction_leaves_nothing(store) -> None:
    def work(configuration):
        configuration.next_revision("acme", START)
        configuration.experiments.insert(experiment())
        configuration.layers.insert(layer().allocate("button", 5, at(2)))
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write(store, work)
    found = read(store, lambda c: c.load("acme"))
    assert (found.config_version, dict(found.experiments), dict(found.layers)) == (0, {}, {})


def test_experiments_page_newest_first_with_ties_by_id(store) -> None:
    ids = [("a", 0), ("b-b", 1), ("b", 1), ("bb", 1), ("c", 2)]

    def fill(configuration):
        for experiment_id, minutes in ids:
            configuration.experiments.insert(experiment(experiment_id, minutes=minutes))
        configuration.experiments.insert(experiment("old", minutes=9, state=State.ARCHIVED))

    write(store, fill)
    seen, below = [], None
    states = [state for state in State if state is not State.ARCHIVED]
    while page := read(store, lambda c, b=below: c.experiments.page("acme", states, b, 2)):
        assert len(page) <= 2
        seen += [found.experiment_id for found in page]
        below = ExperimentCursor(page[-1].create_time, page[-1].experiment_id)
    assert seen == ["c", "bb", "b-b", "b", "a"]
    archived = read(store, lambda c: c.experiments.page("acme", [State.ARCHIVED], None, 5))
    assert [found.experiment_id for found in archived] == ["old"]


def test_layers_page_by_id_in_code_point_order(store) -> None:
    ids = ["a-b", "ab", "a", "b", "a1"]
    write(store, lambda c: [c.layers.insert(layer(layer_id)) for layer_id in ids])
    first = read(store, lambda c: c.layers.page("acme", "", 3))
    rest = read(store, lambda c: c.layers.page("acme", first[-1].layer_id, 3))
    assert [cut.layer_id for cut in [*first, *rest]] == sorted(ids)


def test_versions_count_up_by_project(store) -> None:
    def step(project):
        return write(store, lambda c: c.next_revision(project, START))

    assert [step("acme").config_version for _ in range(3)] == [1, 2, 3]
    assert step("other") == Revision(1, START)
    assert read(store, lambda c: c.versions()) == {"acme": 3, "other": 1}


def test_a_project_can_be_loaded_as_it_was_at_any_version(store) -> None:
    def change(work):
        def run(configuration):
            revision = configuration.next_revision("acme", START)
            work(configuration, revision)

        write(store, run)

    change(lambda c, r: (c.layers.insert(layer(version=1)), c.experiments.insert(experiment())))

    def move(state, allocate):
        def work(configuration, revision):
            old = configuration.experiments.get("acme", "button")
            new = replace(old, state=state, config_version=revision.config_version)
            configuration.experiments.replace(old, new)
            cut = configuration.layers.get("acme", "checkout")
            if allocate:
                changed = cut.allocate("button", 10_000, revision)
            else:
                changed = cut.release("button", REST, revision)
            configuration.layers.replace(cut, changed)

        change(work)

    move(State.RUNNING, allocate=True)
    move(State.STOPPED, allocate=False)
    states = []
    for version in range(4):
        found = read(store, lambda c, v=version: c.load("acme", as_of=v))
        assert found.config_version == version
        snapshot = compile_snapshot(found.config_version, found.experiments, found.layers)
        states.append(snapshot.decide("button", {"user": "u1"}).reason.value)
        assert all(cut.config_version <= 3 for cut in found.layers.values())
    assert states == ["UNKNOWN_EXPERIMENT", "NOT_RUNNING", "SPLIT", "NOT_RUNNING"]
    now = read(store, lambda c: c.load("acme"))
    assert now.config_version == 3
    assert now.layers["checkout"].owned_by("button") == ()


def test_concurrent_writers(store) -> None:
    """Eight writers of one project: every version once, every range with one owner."""
    write(store, lambda c: c.layers.insert(layer()))
    versions: list[int] = []

    def grow(name):
        def work(configuration):
            revision = configuration.next_revision("acme", START)
            cut = configuration.layers.get("acme", "checkout")
            configuration.layers.replace(cut, cut.allocate(name, 100, revision))
            return revision.config_version

        versions.append(write(store, work))

    threads = [threading.Thread(target=grow, args=(f"e{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 9))
    ledger = read(store, lambda c: c.layers.get("acme", "checkout")).ledger
    assert sorted((row.first, row.end) for row in ledger) == [
        (start, start + 100) for start in range(0, 800, 100)
    ]


def test_a_reader_sees_one_moment(store) -> None:
    write(store, lambda c: c.next_revision("acme", START))
    with SqlConfigurationReader(store).read() as configuration:
        assert configuration.load("acme").config_version == 1
        write(store, lambda c: (c.next_revision("acme", START), c.experiments.insert(experiment())))
        found = configuration.load("acme")
        assert (found.config_version, dict(found.experiments)) == (1, {})
    assert read(store, lambda c: c.load("acme")).config_version == 2


def test_use_after_close(store) -> None:
    store.close()
    for use in (read, write):
        with pytest.raises(DomainError) as caught:
            use(store, lambda c: c.versions())
        assert (caught.value.code, caught.value.reason) == (
            Code.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
        )


def test_migrating_twice_keeps_the_data(store) -> None:
    write(store, lambda c: c.experiments.insert(experiment()))
    migrate_assignment(store)
    assert read(store, lambda c: c.experiments.get("acme", "button")) == experiment()
