"""Links and calibrated reports over their contract: a real server, and results that are not."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import (
    attribution_pb2,
    calibration_pb2,
    money_pb2,
    report_service_pb2,
    spend_service_pb2,
    spend_service_pb2_grpc,
)
from touchstone.attribution.v1 import calibration_service_pb2 as pb
from touchstone.attribution.v1 import calibration_service_pb2_grpc as rpc
from touchstone.attribution.v1 import economics_service_pb2 as economics_pb
from touchstone.attribution.v1 import economics_service_pb2_grpc as economics_rpc
from touchstone.attribution.v1 import report_service_pb2_grpc as report_rpc
from touchstone.results.v1 import (
    metric_pb2,
    results_pb2,
)

from services.attribution.adapters.calibration_lake import LakeExposures
from services.attribution.adapters.calibration_results import (
    caution_of,
    difference_of,
    measured_events,
)
from services.attribution.adapters.calibration_sql import SqlLinks, migrate_calibration
from services.attribution.adapters.memory import ListedNames
from services.attribution.application.calibration_links import SwitchedGroup
from services.attribution.application.calibration_ports import (
    ExposedSpan,
    ExposedUnits,
    ExposureQuery,
    MeasuredEvents,
    NoLift,
    StoredLink,
)
from services.attribution.composition import compose
from services.attribution.domain.lift import Estimate
from services.attribution.settings import Settings
from shared.errors import Code, DomainError
from shared.identity.belonging import Stitching
from shared.identity.policy import IdentityPolicy, StoredPolicy
from shared.identity.reader import IdentityReader
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.writer import LakeWriter
from shared.security.caller import Role
from shared.server.run import start_server
from shared.state.database import Database
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from shared.testing.ports import free_port
from tests.contract.attribution_world import NOW, key_of, moment, write_events

PARENT = "projects/demo"
LINK = calibration_pb2.CalibrationLink(
    description="Ads off",
    channel="ads",
    metric=f"{PARENT}/metrics/orders",
    experiment_comparison=calibration_pb2.ExperimentComparison(
        experiment=f"{PARENT}/experiments/switch",
        treatment_variant="shown",
        control_variant="held-out",
    ),
    treatment=calibration_pb2.CHANNEL_SWITCH_ON,
)


@dataclass
class Refusing(grpc.GenericRpcHandler):
    """A results service that answers with a status, and remembers who asked."""

    code: grpc.StatusCode
    asked: list[str] = field(default_factory=list)

    def service(self, handler_call_details: Any) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)
        self.asked.append(str(metadata["authorization"]))

        async def answer(_request: bytes, context: Any) -> bytes:
            await context.abort(self.code, "so it is")
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass
class World:
    """The server, where it looks for results, and keys."""

    channel: grpc.aio.Channel
    results_address: str
    keys: dict[str, str]

    def metadata(self, who: str = "demo") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[who]}"),)

    async def call(self, verb: str, who: str = "demo", **fields: Any) -> Any:
        request = getattr(pb, f"{verb}Request")(**fields)
        stub = rpc.CalibrationServiceStub(self.channel)
        return await getattr(stub, verb)(request, metadata=self.metadata(who))

    async def create(self, link_id: str = "ads", **fields: Any) -> calibration_pb2.CalibrationLink:
        asked: dict[str, Any] = {"parent": PARENT, "calibration_link": LINK} | fields
        reply = await self.call("CreateCalibrationLink", calibration_link_id=link_id, **asked)
        found: calibration_pb2.CalibrationLink = reply.calibration_link
        return found

    async def run_report(self) -> str:
        begun = await report_rpc.ReportServiceStub(self.channel).RunAttribution(
            report_service_pb2.RunAttributionRequest(
                parent=PARENT,
                report_id="rep",
                journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
                min_units=1,
            ),
            metadata=self.metadata(),
        )
        wait = operations_pb2.WaitOperationRequest(
            name=begun.operation.name, timeout=Duration(seconds=20)
        )
        ended = await operations_pb2_grpc.OperationsStub(self.channel).WaitOperation(
            wait, metadata=self.metadata()
        )
        assert not ended.HasField("error"), ended.error
        return f"{PARENT}/attributionReports/rep"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    write_events(tmp_path / "lake")
    results_address = f"127.0.0.1:{free_port()}"
    settings = Settings(
        data=tmp_path,
        attribution_address=f"127.0.0.1:{free_port()}",
        results_address=results_address,
    )
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        keys = {
            "demo": key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER, Role.ADMIN),
            "viewer": key_of(application, "demo", Role.VIEWER),
            "other": key_of(application, "other", Role.VIEWER, Role.EXPERIMENTER),
        }
        yield World(channel, results_address, keys)
    await running.drain()


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), str(error.value.details())


async def test_a_link_is_kept_listed_and_deleted(world: World) -> None:
    made = await world.create()
    await world.create("zebra")
    name = f"{PARENT}/calibrationLinks/ads"
    read = (await world.call("GetCalibrationLink", "viewer", name=name)).calibration_link
    first = await world.call("ListCalibrationLinks", "viewer", parent=PARENT, page_size=1)
    rest = await world.call(
        "ListCalibrationLinks",
        "viewer",
        parent=PARENT,
        page_size=1,
        page_token=first.next_page_token,
    )

    assert made == read
    assert (made.name, made.channel, made.description) == (name, "ads", "Ads off")
    assert made.HasField("create_time")
    assert [one.name for one in first.calibration_links] == [name]
    assert [one.name.rsplit("/", 1)[1] for one in rest.calibration_links] == ["zebra"]
    assert not rest.next_page_token
    await world.call("DeleteCalibrationLink", name=name, validate_only=True)
    await world.call("DeleteCalibrationLink", name=name)
    assert (await refused(world.call("GetCalibrationLink", name=name)))[0] is (
        grpc.StatusCode.NOT_FOUND
    )


async def test_a_link_is_made_once_by_who_may(world: World) -> None:
    await world.create(validate_only=True)
    await world.create(request_id="one")
    again = await world.create(request_id="one")

    assert again.name == f"{PARENT}/calibrationLinks/ads"
    assert (await refused(world.create()))[0] is grpc.StatusCode.ALREADY_EXISTS
    viewer = world.call("CreateCalibrationLink", "viewer", parent=PARENT, calibration_link_id="x")
    assert (await refused(viewer))[0] in (
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    for verb in ("GetCalibrationLink", "DeleteCalibrationLink"):
        code, _ = await refused(world.call(verb, "other", name=again.name))
        assert code is grpc.StatusCode.NOT_FOUND


def changed(change: Callable[[calibration_pb2.CalibrationLink], None]) -> Any:
    link = calibration_pb2.CalibrationLink()
    link.CopyFrom(LINK)
    change(link)
    return link


def same_variants(link: calibration_pb2.CalibrationLink) -> None:
    link.experiment_comparison.control_variant = "shown"


def other_tenant(link: calibration_pb2.CalibrationLink) -> None:
    link.experiment_comparison.experiment = "projects/other/experiments/switch"


def foreign_metric(link: calibration_pb2.CalibrationLink) -> None:
    link.metric = "projects/other/metrics/orders"


def wave_is_control(link: calibration_pb2.CalibrationLink) -> None:
    group = calibration_pb2.TestedVariant(experiment=f"{PARENT}/experiments/a", variant="b")
    link.control_group.control.CopyFrom(group)
    link.control_group.waves.add().CopyFrom(group)


def no_direction(link: calibration_pb2.CalibrationLink) -> None:
    link.ClearField("treatment")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (same_variants, grpc.StatusCode.INVALID_ARGUMENT),
        (no_direction, grpc.StatusCode.INVALID_ARGUMENT),
        (wave_is_control, grpc.StatusCode.INVALID_ARGUMENT),
        (other_tenant, grpc.StatusCode.NOT_FOUND),
        (foreign_metric, grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_a_link_that_cannot_be_is_refused(
    world: World, change: Callable[[Any], None], code: grpc.StatusCode
) -> None:
    assert (await refused(world.create(calibration_link=changed(change))))[0] is code


async def test_results_that_are_away_are_named(world: World) -> None:
    report = await world.run_report()
    await world.create()

    code, message = await refused(world.call("CalibrateReport", "viewer", report=report))

    assert code is grpc.StatusCode.UNAVAILABLE
    assert f"the results service at {world.results_address}" in message
    # Without links nothing is asked.
    await world.call("DeleteCalibrationLink", name=f"{PARENT}/calibrationLinks/ads")
    found = (await world.call("CalibrateReport", "viewer", report=report)).calibrated_report
    assert not found.tests
    assert not any(c.HasField("kappa") for result in found.results for c in result.channels)


@pytest.mark.parametrize(
    ("code", "passed_on"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (grpc.StatusCode.NOT_FOUND, False),
        (grpc.StatusCode.FAILED_PRECONDITION, False),
    ],
)
async def test_results_are_asked_with_the_callers_own_credential(
    world: World, code: grpc.StatusCode, passed_on: bool
) -> None:
    report = await world.run_report()
    await world.create()
    results, server = Refusing(code), grpc.aio.server()
    server.add_generic_rpc_handlers([results])
    server.add_insecure_port(world.results_address)
    await server.start()
    try:
        call = world.call("CalibrateReport", "viewer", report=report)
        if passed_on:
            assert await refused(call) == (code, "so it is")
        else:
            found = (await call).calibrated_report
            (finding,) = found.findings
            assert finding.kind == calibration_pb2.CALIBRATION_FINDING_KIND_NO_RESULTS
            assert finding.left_out
            assert finding.links == [f"{PARENT}/calibrationLinks/ads"]
            assert "so it is" in finding.message
            assert not found.tests[0].used
    finally:
        await server.stop(0)
    assert results.asked == [f"Bearer {world.keys['viewer']}"]


async def import_spend(world: World, *rows: tuple[str, str, float, float, str]) -> None:
    stub = spend_service_pb2_grpc.SpendServiceStub(world.channel)
    spend = [
        spend_service_pb2.Spend(
            source=source,
            channel=channel,
            day=moment(day).date().isoformat(),
            amount=amount,
            currency=currency,
        )
        for source, channel, day, amount, currency in rows
    ]
    request = spend_service_pb2.ImportSpendRequest(parent=PARENT, rows=spend)
    await stub.ImportSpend(request, metadata=world.metadata())


async def test_costs_are_those_of_the_channel_economics(world: World) -> None:
    report = await world.run_report()
    before = (await world.call("CalibrateReport", report=report)).calibrated_report
    # Two sources tell of one day, one channel is met by nobody, and one is paid in other money.
    await import_spend(
        world,
        ("platform", "ads", 1, 6.0, "CNY"),
        ("agency", "ads", 1, 5.0, "CNY"),
        ("agency", "radio", 2, 7.0, "CNY"),
        ("agency", "mail", 2, 2.0, "USD"),
    )
    economics = economics_rpc.EconomicsServiceStub(world.channel)
    asked: tuple[dict[str, Any], ...] = (
        {"currency": "CNY"},
        {"currency": "CNY", "costs": economics_pb.CostRules(sources=["platform"])},
        {"currency": "CNY", "costs": economics_pb.CostRules(basis=economics_pb.COST_BASIS_TOUCHES)},
        {
            "currency": "CNY",
            "exchange_rates": [money_pb2.ExchangeRate(currency="USD", rate=7.0)],
        },
    )
    digests = {before.digest}
    for fields in asked:
        found = (await world.call("CalibrateReport", report=report, **fields)).calibrated_report
        same = await economics.GetChannelEconomics(
            economics_pb.GetChannelEconomicsRequest(parent=PARENT, report=report, **fields),
            metadata=world.metadata("viewer"),
        )
        assert list(found.costs) == list(same.costs)
        assert list(found.conflicts) == list(same.conflicts)
        assert found.currency == same.currency == "CNY"
        for result, said in zip(found.results, same.models, strict=True):
            ratios = {one.channel: one for one in said.channels}
            for channel in result.channels:
                beside = ratios[channel.channel]
                assert channel.cost_per_conversion == beside.cost_per_conversion
                assert channel.return_on_spend == beside.return_on_spend
        assert len(found.provenance.spend_digest) == 64
        digests.add(found.digest)
    assert len(digests) == 5
    assert not before.provenance.spend_digest


async def test_a_cost_that_is_not_known_says_why(world: World) -> None:
    report = await world.run_report()

    def costs(found: Any) -> dict[str, Any]:
        return {one.channel: one for one in found.calibrated_report.results[0].channels}

    mail = costs(await world.call("CalibrateReport", report=report))["mail"]
    assert mail.cost.undefined == money_pb2.MONEY_UNDEFINED_COST_UNKNOWN
    await import_spend(world, ("agency", "mail", 2, 2.0, "USD"), ("agency", "ads", 2, 0.0, "CNY"))
    found = costs(await world.call("CalibrateReport", report=report, currency="CNY"))
    assert found["mail"].cost_per_conversion.undefined == money_pb2.MONEY_UNDEFINED_MIXED_CURRENCIES
    assert found["ads"].cost_per_conversion.undefined == money_pb2.MONEY_UNDEFINED_ZERO_COST
    assert found["ads"].return_on_spend.undefined == money_pb2.MONEY_UNDEFINED_ZERO_COST


async def test_what_is_not_there_is_not_found(world: World) -> None:
    report = await world.run_report()
    missing = world.call(
        "CalibrateReport", report=report, links=[f"{PARENT}/calibrationLinks/none"]
    )
    elsewhere = world.call("CalibrateReport", "other", report=report)
    gone = world.call("CalibrateReport", report=f"{PARENT}/attributionReports/none")

    for call in (missing, elsewhere, gone):
        assert (await refused(call))[0] is grpc.StatusCode.NOT_FOUND
    await asyncio.sleep(0)


def test_links_are_kept_by_project_and_id(database: Database) -> None:
    migrate_calibration(database)
    links = SqlLinks(database)
    made = [StoredLink("p", name, NOW, name.encode()) for name in ("b", "a", "c")]
    with database.begin() as connection:
        store = links.within(connection)
        for link in (*made, StoredLink("q", "a", NOW, b"other")):
            store.insert(link)
    with links.read() as store:
        assert store.get("p", "a") == made[1]
        assert store.get("p", "A") is None
        assert [one.link_id for one in store.page("p", "", 2)] == ["a", "b"]
        assert [one.link_id for one in store.page("p", "b", 2)] == ["c"]
    with pytest.raises(DomainError) as taken, database.begin() as connection:
        links.within(connection).insert(made[0])
    assert taken.value.code is Code.ALREADY_EXISTS
    with database.begin() as connection:
        assert links.within(connection).delete("p", "a")
        assert not links.within(connection).delete("p", "a")
        assert links.within(connection).get("q", "a") is not None


def exposure(unit: str, day: float, variant: str, **more: Any) -> dict[str, Any]:
    row = {
        "event_id": f"{unit}-{day}-{variant}-{more.get('experiment', 'switch')}",
        "project": "demo",
        "event_time": moment(day),
        "unit_id": unit,
        "experiment": "switch",
        "variant": variant,
    }
    return row | more


def exposed(lake: Path, *variants: SwitchedGroup, as_of: str = "") -> ExposedUnits:
    policy = StoredPolicy(IdentityPolicy(), 1)
    reader = IdentityReader(FixedPolicies(policy))
    query = ExposureQuery("demo", "user", Stitching.RETROACTIVE, as_of, variants)
    return LakeExposures(LakeEventTables(lake), reader).read(query)


def placed(units: ExposedUnits, names: list[str], *places: int) -> list[tuple[bool, int]]:
    found = units.placed(ListedNames(names), len(names), places)
    return list(zip(found.inside.tolist(), found.first_us.tolist(), strict=True))


def microseconds(day: float) -> int:
    return int(moment(day).timestamp() * 1_000_000)


def test_units_are_in_the_variant_that_they_saw_alone_and_first(tmp_path: Path) -> None:
    rows = [
        exposure("ann", 2, "shown"),
        exposure("ann", 1, "shown"),
        exposure("bob", 3, "held-out"),
        exposure("both", 1, "shown"),
        exposure("both", 2, "held-out"),
        exposure("forced", 1, "shown", reason="FORCED"),
        exposure("ann", 1, "held-out", experiment="other"),
        exposure("eve", 0, "shown", project="elsewhere"),
        exposure("gadget", 0, "shown", unit_type="device"),
    ]
    tables = {"exposures": table_of("exposures", rows)}
    writer = LakeWriter(tmp_path / "lake", "journal-a", FixedClock(NOW))
    token = writer.append(tables, 1).token()
    late = {"exposures": table_of("exposures", [exposure("late", 4, "shown", position=2)])}
    LakeWriter(tmp_path / "lake", "journal-a", FixedClock(NOW)).append(late, 2)
    on, off = SwitchedGroup("switch", "shown"), SwitchedGroup("switch", "held-out")
    elsewhere = SwitchedGroup("other", "held-out")

    units = exposed(tmp_path / "lake", on, off, elsewhere, SwitchedGroup("switch", "none"))
    then = exposed(tmp_path / "lake", on, as_of=token)

    one, three, four = microseconds(1), microseconds(3), microseconds(4)
    assert units.spans(None) == [
        ExposedSpan(2, one, four),
        ExposedSpan(1, three, three),
        ExposedSpan(1, one, one),
        ExposedSpan(0, 0, 0),
    ]
    assert units.spans(one)[0] == ExposedSpan(1, one, one)
    assert units.start_us == one
    assert units.data_us == four
    names = ["ann", "bob", "both", "forced", "unseen"]
    nobody = (False, 0)
    assert placed(units, names, 0) == [(True, one), nobody, nobody, nobody, nobody]
    assert placed(units, names, 0, 1)[1] == (True, three)
    assert placed(units, names, 2)[0] == (True, one)
    assert placed(units, names, 3) == [nobody] * 5
    assert then.spans(None)[0].units == 1


def test_nobody_was_exposed(tmp_path: Path) -> None:
    write_events(tmp_path / "lake")
    units = exposed(tmp_path / "lake", SwitchedGroup("switch", "shown"))

    assert (units.start_us, units.spans(None)) == (None, [ExposedSpan(0, 0, 0)])
    assert placed(units, ["ann"], 0) == [(False, 0)]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ({"kind": metric_pb2.METRIC_KIND_PROPORTION}, {"once": True}),
        ({"kind": metric_pb2.METRIC_KIND_MEAN}, {"by_value": True}),
        (
            {
                "kind": metric_pb2.METRIC_KIND_MEAN,
                "aggregation": metric_pb2.AGGREGATION_COUNT,
                "conversion_window": Duration(seconds=7),
                "delay": Duration(seconds=2),
                "complete_only": True,
            },
            {"window_us": 7_000_000, "delay_us": 2_000_000, "complete_only": True},
        ),
        (
            {
                "kind": metric_pb2.METRIC_KIND_MEAN,
                "aggregation": metric_pb2.AGGREGATION_MAX,
                "cap": metric_pb2.Cap(absolute=3.0),
            },
            {"additive": False, "capped": True},
        ),
        ({"kind": metric_pb2.METRIC_KIND_RETENTION}, {"additive": False}),
        (
            {"kind": metric_pb2.METRIC_KIND_MEAN, "currency": "EUR"},
            {"by_value": True, "currency": "EUR"},
        ),
    ],
)
def test_a_metric_says_which_conversions_it_counts(
    metric: dict[str, Any], expected: dict[str, Any]
) -> None:
    message = metric_pb2.Metric(event_name="buy", **metric)

    assert measured_events(message) == MeasuredEvents("buy", **expected)


def number(value: float) -> results_pb2.Estimate:
    return results_pb2.Estimate(value=value)


def test_any_two_arms_are_compared() -> None:
    arms = [("control", 1.0, 0.3), ("a", 1.5, 0.4), ("b", 1.1, 0.1)]
    metric = results_pb2.MetricResults(
        arms=[
            results_pb2.ArmEstimate(variant=v, mean=number(mean), std_err=number(std_err))
            for v, mean, std_err in arms
        ],
        comparisons=[
            # An adjusted difference is not that of the means.
            results_pb2.Comparison(variant="a", difference=number(0.45), std_err=number(0.05)),
            results_pb2.Comparison(
                variant="b",
                difference=results_pb2.Estimate(not_estimable=results_pb2.NOT_ESTIMABLE_ONE_UNIT),
            ),
        ],
    )

    assert difference_of(metric, "a", "control") == Estimate(0.45, 0.05)
    assert difference_of(metric, "control", "a") == Estimate(-0.45, 0.05)
    between = difference_of(metric, "a", "b")
    assert isinstance(between, Estimate)
    assert between.value == pytest.approx(0.4)
    assert between.std_err == pytest.approx(0.17**0.5)
    for one, other, why in (("b", "control", "one unit"), ("a", "c", "no variant 'c'")):
        found = difference_of(metric, one, other)
        assert isinstance(found, NoLift)
        assert why in found.why


def compared(half: float, *, look: bool) -> results_pb2.MetricResults:
    """A difference of standard error 1 with a 95% interval so many wide to each side."""
    comparison = results_pb2.Comparison(
        variant="a",
        difference=number(0.0),
        std_err=number(1.0),
        difference_interval=results_pb2.Interval(low=-half, high=half, level=0.95),
    )
    if look:
        comparison.look.number = 1
    return results_pb2.MetricResults(comparisons=[comparison])


def test_an_interval_of_looks_is_set_against_that_of_one_look() -> None:
    assert caution_of(compared(2 * 1.959964, look=True)) == pytest.approx(2.0)
    # Nearly as wide, as at the planned end, and a test that knows one look only.
    assert caution_of(compared(1.05 * 1.959964, look=True)) == 1.0
    assert caution_of(compared(2 * 1.959964, look=False)) == 1.0
    unbounded = compared(1.0, look=True)
    unbounded.comparisons[0].difference_interval.low_unbounded = True
    assert caution_of(unbounded) == math.inf
