"""The promises of the resource stores, for every kind, over every database that is supported."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from touchstone_assignment.bucketing import HashVersion

from services.assignment.adapters import sql
from services.assignment.adapters.sql import (
    SqlConfiguration,
    SqlConfigurationReader,
    migrate_assignment,
)
from services.assignment.adapters.tables import RESOURCES
from services.assignment.domain.attribute import Attribute, AttributeType
from services.assignment.domain.domain import Domain
from services.assignment.domain.forced import ForcedVariant
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.layer import Holder, Layer, LayerKind
from services.assignment.domain.parameter import Parameter
from services.assignment.domain.revision import Revision
from services.assignment.domain.salt_checks import Salt
from services.assignment.domain.unit_type import UnitType
from services.assignment.ports import Configuration, ProjectConfig, ResourceStore
from shared.errors import Code, DomainError
from shared.state.database import Database
from shared.state.migrate import migrate

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class Kind:
    """One kind of resource: its name in the configuration, and how to make one."""

    name: str
    make: Callable[..., Any]

    def of(self, configuration: Configuration) -> ResourceStore[Any]:
        store: ResourceStore[Any] = getattr(configuration, self.name)
        return store

    def loaded(self, config: ProjectConfig) -> dict[str, Any]:
        return dict(getattr(config, self.name))

    def resource(self, resource_id: str = "one", project: str = "acme", version: int = 1) -> Any:
        return self.make(project, resource_id, version, START)


KINDS = [
    Kind("unit_types", partial(UnitType, display_name="Größe ✓", description="Kunden")),
    Kind("attributes", partial(Attribute, type=AttributeType.VERSION, display_name="App")),
    Kind(
        "domains",
        partial(
            Domain,
            layer="checkout",
            traffic_slots=400,
            unit_type="user",
            display_name="Kasse",
            released=True,
        ),
    ),
    Kind(
        "holdouts",
        partial(
            Holdout,
            unit_type="user",
            slots=500,
            salt="holdout/x",
            hash_version=HashVersion.FLAGD_V3,
            layers=("checkout",),
            experiments=("button", "price"),
            display_name="Q1",
            description="all of it",
            end_time=START + timedelta(days=90),
        ),
    ),
    Kind(
        "forced",
        partial(
            ForcedVariant,
            experiment_id="button",
            unit_type="user",
            unit_id="Ünit 7",
            variant="green",
            note="Ada's phone",
        ),
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def store(database: Database) -> Database:
    migrate_assignment(database)
    return database


@contextmanager
def writing(database: Database) -> Iterator[Configuration]:
    with database.begin() as connection:
        yield SqlConfiguration(connection)


def get(database: Database, kind: Kind, resource_id: str = "one", project: str = "acme") -> Any:
    with SqlConfigurationReader(database).read() as configuration:
        return kind.of(configuration).get(project, resource_id)


def insert(database: Database, kind: Kind, *resources: Any) -> None:
    with writing(database) as configuration:
        for resource in resources:
            kind.of(configuration).insert(resource)


def load(database: Database, as_of: int | None = None) -> ProjectConfig:
    with SqlConfigurationReader(database).read() as configuration:
        return configuration.load("acme", as_of)


def test_what_was_inserted_comes_back_equal(store: Database, kind: Kind) -> None:
    insert(store, kind, kind.resource())
    assert get(store, kind) == kind.resource()
    assert get(store, kind).etag == "v1"


def test_what_a_project_lacks_is_absent_whatever_others_have(store: Database, kind: Kind) -> None:
    insert(store, kind, kind.resource(project="other"))
    assert get(store, kind) is None
    with writing(store) as configuration:
        assert kind.of(configuration).page("acme", "", 10) == []
        assert kind.of(configuration).all_now("acme") == {}
        assert kind.of(configuration).all_as_of("acme", 9) == {}
        for another in KINDS:
            if another is not kind:
                assert another.of(configuration).get("other", "one") is None


def test_a_taken_id_is_refused_and_the_first_one_stays(store: Database, kind: Kind) -> None:
    insert(store, kind, kind.resource())
    with pytest.raises(DomainError) as caught:
        insert(store, kind, kind.resource(version=2))
    assert (caught.value.code, caught.value.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert get(store, kind) == kind.resource()


def test_case_sensitivity(store: Database, kind: Kind) -> None:
    names = ["one", "One", "one ", " one", "öne", "o\u0308ne"]
    insert(store, kind, *[kind.resource(name) for name in names])
    for name in names:
        assert get(store, kind, name).resource_id == name
    assert get(store, kind, "ONE") is None


def test_pages_ascend_by_code_point(store: Database, kind: Kind) -> None:
    names = ["a-b", "ab", "B", "a", "a1", "ä"]
    insert(store, kind, *[kind.resource(name) for name in names])
    seen: list[str] = []
    with writing(store) as configuration:
        while page := kind.of(configuration).page("acme", seen[-1] if seen else "", 2):
            assert len(page) <= 2
            seen += [found.resource_id for found in page]
        assert list(kind.of(configuration).all_now("acme")) == sorted(names)
        assert list(kind.of(configuration).all_as_of("acme", 1)) == sorted(names)
    assert seen == sorted(names)


def test_a_stale_change_is_aborted_and_changes_nothing(store: Database, kind: Kind) -> None:
    first, second = kind.resource(), kind.resource(version=2)
    insert(store, kind, first)
    with writing(store) as configuration:
        kind.of(configuration).replace(first, second)
    stale: list[Callable[[ResourceStore[Any]], None]] = [
        lambda found: found.replace(first, kind.resource(version=3)),
        lambda found: found.delete(first, Revision(3, START)),
        lambda found: found.replace(kind.resource("none"), kind.resource("none", version=3)),
        lambda found: found.delete(kind.resource("none"), Revision(3, START)),
    ]
    for work in stale:
        with pytest.raises(DomainError) as caught, writing(store) as configuration:
            work(kind.of(configuration))
        assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")
    assert get(store, kind) == second


def test_a_project_is_loaded_as_it_was_at_any_version_through_deletion_and_return(
    store: Database, kind: Kind
) -> None:
    """Made at 1, changed at 2, deleted at 3, something else at 4, made again at 5."""
    one, two, five = (kind.resource(version=version) for version in (1, 2, 5))
    five = replace(five, create_time=START + timedelta(days=1))
    steps: list[Callable[[ResourceStore[Any], Revision], None]] = [
        lambda found, _at: found.insert(one),
        lambda found, _at: found.replace(one, two),
        lambda found, at: found.delete(two, at),
        lambda found, _at: found.insert(kind.resource("two", version=4)),
        lambda found, _at: found.insert(five),
    ]
    for step in steps:
        with writing(store) as configuration:
            step(kind.of(configuration), configuration.next_revision("acme", START))
    expected: list[dict[str, Any]] = [
        {},
        {"one": one},
        {"one": two},
        {},
        {"two": kind.resource("two", version=4)},
        {"one": five, "two": kind.resource("two", version=4)},
    ]
    for version, found in enumerate(expected):
        config = load(store, as_of=version)
        assert (config.config_version, kind.loaded(config)) == (version, found)
    assert kind.loaded(load(store)) == expected[5]
    assert kind.loaded(load(store, as_of=99)) == expected[5]


def test_a_failed_transaction_leaves_nothing(store: Database, kind: Kind) -> None:
    def fail() -> None:
        with writing(store) as configuration:
            kind.of(configuration).insert(kind.resource())
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert get(store, kind) is None
    insert(store, kind, kind.resource())


def test_concurrent_writers_of_one_resource_lose_nothing(store: Database, kind: Kind) -> None:
    insert(store, kind, kind.resource())
    won: list[int] = []

    def change() -> None:
        with writing(store) as configuration:
            revision = configuration.next_revision("acme", START)
            found = kind.of(configuration)
            old = found.get("acme", "one")
            assert old is not None
            version = revision.config_version + 1
            found.replace(old, replace(old, config_version=version))
        won.append(version)

    threads = [threading.Thread(target=change) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(2, 8))
    assert get(store, kind).config_version == 7


def test_a_document_of_a_newer_program_is_refused_by_name(store: Database, kind: Kind) -> None:
    insert(store, kind, kind.resource())
    with store.begin() as connection:
        connection.execute(sa.update(RESOURCES).values(document='{"format":2}'))
    with pytest.raises(DomainError, match="stored in format 2") as caught:
        get(store, kind)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "NEWER_VERSION")


def test_use_after_close(store: Database, kind: Kind) -> None:
    store.close()
    with pytest.raises(DomainError) as caught:
        get(store, kind)
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, "STORAGE_UNAVAILABLE")


def layer(**changes: Any) -> Layer:
    base = Layer("acme", "checkout", "", "user", "layer/x", HashVersion.FLAGD_V2, 1, START)
    return replace(base, **changes)


def test_a_layer_keeps_its_kind_domain_and_parameters(store: Database) -> None:
    cut = layer(
        kind=LayerKind.LAUNCH,
        domain="mobile",
        parameters=(Parameter("colour", '"grün"', "of it"), Parameter("size", "1.5")),
    )
    with writing(store) as configuration:
        configuration.next_revision("acme", START)
        configuration.layers.insert(cut)
        assert configuration.layers.get("acme", "checkout") == cut
        assert configuration.layers.page("acme", "", 5) == [cut]
    assert load(store).layers == {"checkout": cut}


def test_the_parameters_of_a_layer_are_those_of_the_version(store: Database) -> None:
    """A layer without parameters, then one, then another default, with a range given between."""
    first = (Parameter("size", "1"),)
    second = (Parameter("size", "2"), Parameter("colour", '"red"'))
    changes: list[dict[str, Any]] = [{}, {"parameters": first}, {}, {"parameters": second}]
    cut = layer()
    with writing(store) as configuration:
        configuration.next_revision("acme", START)
        configuration.layers.insert(cut)
    for change in changes[1:]:
        with writing(store) as configuration:
            at = configuration.next_revision("acme", START)
            new = cut.allocate("button", 5, at) if not change else replace(cut, **change)
            new = replace(new, config_version=at.config_version)
            configuration.layers.replace(cut, new)
            cut = new
    parameters = [load(store, as_of=version).layers["checkout"].parameters for version in (1, 2, 3)]
    assert parameters == [(), first, first]
    assert load(store).layers["checkout"] == cut
    assert cut.parameters == second


def test_a_range_belongs_to_a_domain_as_it_does_to_an_experiment(store: Database) -> None:
    mobile = Holder(domain_id="mobile")
    cut = layer().allocate("mobile", 100, Revision(1, START)).give(mobile, 50, Revision(1, START))
    with writing(store) as configuration:
        configuration.next_revision("acme", START)
        configuration.layers.insert(cut)
        at = configuration.next_revision("acme", START)
        released = cut.take_back(mobile, timedelta(days=7), at)
        configuration.layers.replace(cut, released)
        assert configuration.layers.get("acme", "checkout") == released
    before, after = load(store, as_of=1).layers["checkout"], load(store).layers["checkout"]
    assert [row.holder for row in before.ledger] == [Holder("mobile"), mobile]
    assert [row.holder for row in after.ledger] == [Holder("mobile")]


def test_the_salts_of_every_cut_come_newest_first(store: Database) -> None:
    holdout = KINDS[3].resource()
    first = layer(salt="layer/first", create_time=START - timedelta(days=2))
    last = layer(layer_id="last", salt="layer/last", create_time=START + timedelta(days=1))
    with writing(store) as configuration:
        for cut in (last, first):
            configuration.layers.insert(cut)
        configuration.holdouts.insert(holdout)
        configuration.holdouts.insert(replace(holdout, project="other"))
        assert configuration.salts("acme") == [
            Salt("layer/last", HashVersion.FLAGD_V2),
            Salt("holdout/x", HashVersion.FLAGD_V3),
            Salt("layer/first", HashVersion.FLAGD_V2),
        ]
        assert configuration.salts("none") == []


def test_all_layers_come_with_their_whole_ledgers(store: Database) -> None:
    at = Revision(2, START)
    cut = layer().allocate("button", 5, at).release("button", timedelta(days=7), at)
    with writing(store) as configuration:
        configuration.layers.insert(cut)
        configuration.layers.insert(layer(layer_id="a"))
        configuration.layers.insert(layer(project="other"))
        found = configuration.layers.all_now("acme")
    assert found == {"a": layer(layer_id="a"), "checkout": cut}
    assert list(found) == ["a", "checkout"]


def test_what_an_older_program_stored_goes_on(database: Database, tmp_path: Path) -> None:
    """A layer with a range held and one released, from before layers had a kind or a domain."""
    migrations = Path(sql.__file__).parent / "migrations"
    copied = tmp_path / "migrations"
    copied.mkdir()
    shutil.copy(migrations / "0001_assignment.py", copied)
    migrate(database, "assignment", copied)
    with database.begin() as connection:
        for statement in OLD_ROWS.split(";"):
            connection.execute(sa.text(statement))
    migrate_assignment(database)
    with writing(database) as configuration:
        found = configuration.layers.get("acme", "checkout")
        assert found is not None
        assert (found.kind, found.domain, found.parameters) == (LayerKind.EXPERIMENT, "", ())
        assert [row.holder for row in found.ledger] == [Holder("button"), Holder("price")]
        at = configuration.next_revision("acme", START)
        extended = replace(
            found.give(Holder(domain_id="mobile"), 50, at), parameters=(Parameter("size", "1"),)
        )
        configuration.layers.replace(found, extended)
    before, after = load(database, as_of=3).layers["checkout"], load(database).layers["checkout"]
    assert [row.holder for row in before.ledger] == [Holder("button")]
    assert (before.parameters, after.parameters) == ((), (Parameter("size", "1"),))
    assert [row.holder for row in after.ledger] == [Holder("button"), Holder(domain_id="mobile")]


OLD_ROWS = """
INSERT INTO assignment_config (project, version) VALUES ('acme', 3);
INSERT INTO assignment_layers (project, layer_id, display_name, unit_type, salt, hash_version,
 config_version, create_version, create_time)
 VALUES ('acme', 'checkout', 'Kasse', 'user', 'layer/x', 'flagd-v2', 3, 1, 1772366400000000);
INSERT INTO assignment_slot_ranges (project, layer_id, position, first_slot, end_slot,
 experiment_id, since_version) VALUES ('acme', 'checkout', 0, 0, 400, 'button', 2);
INSERT INTO assignment_slot_ranges (project, layer_id, position, first_slot, end_slot,
 experiment_id, since_version, release_version, release_time, reusable_time)
 VALUES ('acme', 'checkout', 1, 400, 500, 'price', 2, 3, 1772366400000000, 1772366500000000)
"""
