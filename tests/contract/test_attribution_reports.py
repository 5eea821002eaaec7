"""Reports over their contract: a real server, real tables, generated clients."""

import asyncio
import base64
import csv
import hashlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import (
    attribution_pb2,
    held_out_pb2,
    report_pb2,
    score_service_pb2,
    score_service_pb2_grpc,
    uncertainty_pb2,
)
from touchstone.attribution.v1 import report_service_pb2 as pb
from touchstone.attribution.v1 import report_service_pb2_grpc as rpc

from services.attribution.api.reports import ReportServicer
from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.errors import Code, DomainError
from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.fakes import FixedClock, calling
from shared.testing.ports import free_port
from tests.contract.attribution_world import NOW, key_of, moment, write_events

BUY = attribution_pb2.JourneyDefinition(event_name="buy")
REPORTS = "projects/demo/attributionReports"


@dataclass
class World:
    """The server, its folder, and the key of an experimenter and of another project."""

    lake: Path
    token: str
    reports: Any
    scores: Any
    operations: Any
    keys: dict[str, str]

    def metadata(self, who: str = "demo") -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.keys[who]}"),)

    async def call(self, method: str, request: Any, who: str = "demo") -> Any:
        return await getattr(self.reports, method)(request, metadata=self.metadata(who))

    async def stream(self, method: str, request: Any) -> list[Any]:
        call = getattr(self.scores, method)(request, metadata=self.metadata())
        return [reply async for reply in call]

    async def begin(self, **fields: Any) -> operations_pb2.Operation:
        asked: dict[str, Any] = {"parent": "projects/demo", "journeys": BUY, "min_units": 1}
        request = pb.RunAttributionRequest(**asked | fields)
        answer = await self.call("RunAttribution", request)
        operation: operations_pb2.Operation = answer.operation
        return operation

    async def ended(self, name: str) -> operations_pb2.Operation:
        wait = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=20))
        for _ in range(6):
            found: operations_pb2.Operation = await self.operations.WaitOperation(
                wait, metadata=self.metadata()
            )
            if found.done:
                return found
        raise AssertionError(found)

    async def run(self, **fields: Any) -> report_pb2.AttributionReport:
        operation = await self.ended((await self.begin(**fields)).name)
        assert not operation.HasField("error"), operation.error
        result = pb.RunAttributionResult()
        assert operation.response.Unpack(result)
        return result.report


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    lake = tmp_path / "lake"
    token = write_events(lake)
    settings = Settings(data=tmp_path, attribution_address=f"127.0.0.1:{free_port()}")
    application = compose(settings)
    running = await start_server(application)
    async with grpc.aio.insecure_channel(settings.attribution_address) as channel:
        yield World(
            lake,
            token,
            rpc.ReportServiceStub(channel),
            score_service_pb2_grpc.ScoreServiceStub(channel),
            operations_pb2_grpc.OperationsStub(channel),
            {
                "demo": key_of(application, "demo", Role.VIEWER, Role.EXPERIMENTER, Role.ADMIN),
                "viewer": key_of(application, "demo", Role.VIEWER),
                "other": key_of(application, "other", Role.VIEWER, Role.EXPERIMENTER),
            },
        )
    await running.drain()


def add_touch(lake: Path) -> None:
    row = {
        "event_id": "t9",
        "project": "demo",
        "event_time": moment(2.5),
        "unit_id": "ann",
        "channel": "late",
        "position": 2,
    }
    LakeWriter(lake, "journal-a", FixedClock(NOW)).append(
        {"touchpoints": table_of("touchpoints", [row])}, 2
    )


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    return code


async def test_a_report_is_computed_and_kept(world: World) -> None:
    operation = await world.begin(report_id="weekly")
    progress = pb.RunAttributionProgress()
    assert operation.metadata.Unpack(progress)
    assert progress.report == f"{REPORTS}/weekly"

    ended = await world.ended(operation.name)
    assert ended.metadata.Unpack(progress)
    assert (progress.stage, progress.models_done) == (pb.RUN_ATTRIBUTION_STAGE_PATHS, 6)
    result = pb.RunAttributionResult()
    assert ended.response.Unpack(result)
    found = await world.call("GetReport", pb.GetReportRequest(name=f"{REPORTS}/weekly"), "viewer")
    assert found.report == result.report
    assert found.report.summary.converting_journeys == 1
    assert [channel.channel for channel in found.report.results[0].channels] == ["ads", "mail"]
    assert found.report.provenance.watermark == world.token
    assert found.report.scores == 2


async def test_the_same_watermark_gives_the_same_digest_whatever_came_later(world: World) -> None:
    first = await world.run(report_id="first")
    again = await world.run(report_id="again")
    add_touch(world.lake)
    newest = await world.run(report_id="newest")
    then = await world.run(report_id="then", as_of=world.token)

    assert first.digest == again.digest == then.digest
    assert newest.digest != first.digest
    assert then.results == first.results
    assert newest.provenance.watermark != then.provenance.watermark
    assert [c.channel for c in newest.results[0].channels] == ["ads", "late", "mail"]


async def test_reports_are_listed_newest_first_and_page_by_page(world: World) -> None:
    for report_id in ("one", "two", "three"):
        await world.run(report_id=report_id)

    names, token = [], ""
    while True:
        request = pb.ListReportsRequest(parent="projects/demo", page_size=2, page_token=token)
        page = await world.call("ListReports", request, "viewer")
        names += [report.name for report in page.reports]
        assert all(not report.results and report.digest for report in page.reports)
        token = page.next_page_token
        if not token:
            break
    assert names == [f"{REPORTS}/{report_id}" for report_id in ("three", "two", "one")]


async def test_a_report_is_deleted_once(world: World) -> None:
    await world.run(report_id="gone")
    request = pb.DeleteReportRequest(name=f"{REPORTS}/gone")
    await world.call("DeleteReport", request)

    assert await code_of(world.call("DeleteReport", request)) is grpc.StatusCode.NOT_FOUND
    get = pb.GetReportRequest(name=f"{REPORTS}/gone")
    assert await code_of(world.call("GetReport", get)) is grpc.StatusCode.NOT_FOUND


async def test_an_id_is_taken_once_and_a_request_id_is_answered_once(world: World) -> None:
    await world.run(report_id="weekly")
    assert await code_of(world.begin(report_id="weekly")) is grpc.StatusCode.ALREADY_EXISTS
    one, other = await asyncio.gather(world.begin(request_id="r1"), world.begin(request_id="r1"))
    assert one.name == other.name


async def test_an_id_is_taken_while_its_report_is_computed(tmp_path: Path) -> None:
    # Nothing works on operations before the service starts: what is begun waits.
    application = compose(Settings(data=tmp_path))
    (servicer,) = (
        one.implementation
        for one in application.servicers
        if isinstance(one.implementation, ReportServicer)
    )
    request = pb.RunAttributionRequest(
        parent="projects/demo", report_id="weekly", journeys=BUY, min_units=1
    )
    with calling("/touchstone.attribution.v1.ReportService/RunAttribution"):
        await servicer.RunAttribution(request, None)
        request.min_units = 2
        with pytest.raises(DomainError) as taken:
            await servicer.RunAttribution(request, None)
    assert taken.value.code is Code.ALREADY_EXISTS
    application.platform.database.close()


async def test_paths_with_too_few_units_are_told_of_together(world: World) -> None:
    await world.run(report_id="open")
    await world.run(report_id="closed", min_units=2)

    def ask(report_id: str, **fields: Any) -> Any:
        return world.call("ListPaths", pb.ListPathsRequest(name=f"{REPORTS}/{report_id}", **fields))

    first = await ask("open", page_size=1)
    second = await ask("open", page_size=1, page_token=first.next_page_token)
    rows = [*first.paths, *second.paths]
    assert [(list(row.channels), row.conversions, row.nulls) for row in rows] == [
        (["ads", "mail"], 1, 0),
        (["ads"], 0, 1),
    ]
    assert second.next_page_token == ""
    (row,) = (await ask("closed")).paths
    assert (row.kind, row.paths, row.units) == (report_pb2.PATH_ROW_KIND_SUPPRESSED, 2, 2)
    assert list(row.channels) == []


async def test_models_are_compared_in_pairs(world: World) -> None:
    kinds = ("first_touch", "last_touch", "linear", "participation")
    models = [attribution_pb2.Model() for _ in kinds]
    for model, kind in zip(models, kinds, strict=True):
        getattr(model, kind).SetInParent()
    await world.run(report_id="weekly", models=models)

    request = pb.CompareModelsRequest(name=f"{REPORTS}/weekly")
    pairs = (await world.call("CompareModels", request, "viewer")).pairs

    # ads and then mail: all to one, all to the other, or half to each. Participation is no share.
    assert [(pair.left, pair.right, pair.total_variation) for pair in pairs] == [
        ("first_touch", "last_touch", 1.0),
        ("first_touch", "linear", 0.5),
        ("last_touch", "linear", 0.5),
    ]
    assert pairs[0].rank_correlation == -1
    assert not pairs[1].HasField("rank_correlation")
    assert (pairs[0].channels[0].channel, pairs[0].channels[0].left) == ("ads", 1.0)


async def test_another_project_and_a_viewer_have_no_part_in_it(world: World) -> None:
    await world.run(report_id="weekly")
    get = pb.GetReportRequest(name=f"{REPORTS}/weekly")
    assert await code_of(world.call("GetReport", get, "other")) is grpc.StatusCode.NOT_FOUND
    listed = await world.call(
        "ListReports", pb.ListReportsRequest(parent="projects/other"), "other"
    )
    assert not listed.reports
    run = pb.RunAttributionRequest(parent="projects/demo", journeys=BUY)
    denied = await code_of(world.call("RunAttribution", run, "viewer"))
    assert denied is grpc.StatusCode.PERMISSION_DENIED


async def test_what_cannot_be_computed_is_refused_before_it_begins(world: World) -> None:
    window = attribution_pb2.Window(channel="ads", lookback=Duration(seconds=5))
    twice = attribution_pb2.JourneyDefinition(event_name="buy", windows=[window, window])
    assert await code_of(world.begin(journeys=twice)) is grpc.StatusCode.INVALID_ARGUMENT
    operation = await world.ended((await world.begin(as_of="nonsense")).name)
    assert operation.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_a_cancelled_run_keeps_nothing(world: World) -> None:
    operation = await world.begin(report_id="weekly")
    await world.operations.CancelOperation(
        operations_pb2.CancelOperationRequest(name=operation.name), metadata=world.metadata()
    )
    ended = await world.ended(operation.name)
    get = pb.GetReportRequest(name=f"{REPORTS}/weekly")
    # It may have ended before the cancellation came; then it is there.
    if ended.HasField("error"):
        assert ended.error.code == grpc.StatusCode.CANCELLED.value[0]
        assert await code_of(world.call("GetReport", get)) is grpc.StatusCode.NOT_FOUND
    else:
        assert (await world.call("GetReport", get)).report.name == f"{REPORTS}/weekly"


LINEAR, WEEKLY = attribution_pb2.Model(linear=attribution_pb2.Linear()), f"{REPORTS}/weekly"


async def streamed(world: World, token: str = "") -> list[score_service_pb2.StreamScoresResponse]:
    request = score_service_pb2.StreamScoresRequest(report=WEEKLY, resume_token=token)
    return await world.stream("StreamScores", request)


async def test_scores_are_those_of_the_cut_and_go_on_behind_a_token(world: World) -> None:
    await world.run(report_id="weekly", models=[LINEAR])
    add_touch(world.lake)

    first, last = await streamed(world)

    assert [(c.conversion_id, c.touch_id, c.weight) for c in first.credits] == [
        ("c1", "t1", 0.5),
        ("c1", "t2", 0.5),
    ]
    assert (first.complete, last.complete) == (False, True)
    assert [reply.complete for reply in await streamed(world, first.resume_token)] == [True]
    foreign = pb.GetReportRequest(name=WEEKLY)
    digest = (await world.call("GetReport", foreign)).report.digest
    begun = base64.urlsafe_b64encode(json.dumps([digest, 0, 1]).encode()).decode()
    (rest, _) = await streamed(world, begun)
    assert [credit.touch_id for credit in rest.credits] == ["t2"]
    assert await code_of(streamed(world, "nonsense")) is grpc.StatusCode.INVALID_ARGUMENT


async def test_scores_are_of_their_project_alone(world: World) -> None:
    await world.run(report_id="weekly", models=[LINEAR])
    await world.run(report_id="other", models=[LINEAR], min_units=2)
    token = (await streamed(world))[-1].resume_token
    request = score_service_pb2.StreamScoresRequest(report=WEEKLY, resume_token=token)
    of_other = world.metadata("other")
    for stream in (
        world.scores.StreamScores(request, metadata=of_other),
        world.scores.ExportScores(
            score_service_pb2.ExportScoresRequest(report=WEEKLY), metadata=of_other
        ),
    ):
        assert await code_of(stream.read()) is grpc.StatusCode.NOT_FOUND
    # A token is of what one report says, and of one result.
    request.report = f"{REPORTS}/other"
    own = world.scores.StreamScores(request, metadata=world.metadata("viewer"))
    assert await code_of(own.read()) is grpc.StatusCode.INVALID_ARGUMENT
    for name in ("../weekly", "weekly/../other", "%2e%2e", "a\x00b"):
        request.report, request.resume_token = f"{REPORTS}/{name}", ""
        strange = world.scores.StreamScores(request, metadata=world.metadata())
        assert await code_of(strange.read()) in {
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
        }


async def test_scores_of_events_that_are_gone_are_refused(world: World) -> None:
    await world.run(report_id="weekly", models=[LINEAR])
    for file in (world.lake / "touchpoints").rglob("*.parquet"):
        table = pq.read_table(file, partitioning=None)
        pq.write_table(table.slice(0, 0), file)
    assert await code_of(streamed(world)) in (
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNAVAILABLE,
    )


async def test_scores_are_exported_with_their_digest(world: World) -> None:
    await world.run(report_id="weekly", models=[LINEAR])
    files = {}
    for kind in (score_service_pb2.SCORE_FORMAT_PARQUET, score_service_pb2.SCORE_FORMAT_CSV):
        request = score_service_pb2.ExportScoresRequest(report=WEEKLY, format=kind)
        parts = await world.stream("ExportScores", request)
        files[kind] = b"".join(part.data for part in parts)
        assert hashlib.sha256(files[kind]).hexdigest() == parts[-1].sha256
        assert all(not part.sha256 for part in parts[:-1])

    table = pq.read_table(io.BytesIO(files[score_service_pb2.SCORE_FORMAT_PARQUET]))
    rows = list(csv.DictReader(io.StringIO(files[score_service_pb2.SCORE_FORMAT_CSV].decode())))
    assert table["touch_id"].to_pylist() == [row["touch_id"] for row in rows] == ["t1", "t2"]
    assert table["weight"].to_pylist() == [float(row["weight"]) for row in rows] == [0.5, 0.5]


async def test_a_conversion_is_explained(world: World) -> None:
    window = attribution_pb2.Window(channel="ads", lookback=Duration(seconds=86_400))
    asked = attribution_pb2.JourneyDefinition(event_name="buy", windows=[window])
    markov = attribution_pb2.Model(markov=attribution_pb2.Markov())
    await world.run(report_id="weekly", journeys=asked, models=[LINEAR, markov])

    async def ask(conversion_id: str) -> score_service_pb2.GetConversionCreditsResponse:
        request = score_service_pb2.GetConversionCreditsRequest(
            report=WEEKLY, conversion_id=conversion_id
        )
        answer: score_service_pb2.GetConversionCreditsResponse = (
            await world.scores.GetConversionCredits(request, metadata=world.metadata())
        )
        return answer

    found = await ask("c1")
    assert found.outcome == score_service_pb2.CONVERSION_OUTCOME_CREDITED
    assert list(found.model_names) == ["linear", "markov_path_credit"]
    assert [
        (t.touch_id, t.lookback.seconds, t.verdict, list(t.weights)) for t in found.touches
    ] == [
        ("t1", 86_400, score_service_pb2.TOUCH_VERDICT_OUTSIDE_WINDOW, []),
        ("t2", 30 * 86_400, score_service_pb2.TOUCH_VERDICT_COUNTS, [1.0, 1.0]),
    ]
    alone = await ask("c2")
    assert alone.outcome == score_service_pb2.CONVERSION_OUTCOME_WITHOUT_TOUCH
    assert (alone.unit.id, alone.value, list(alone.touches)) == ("dan", 4.0, [])
    assert await code_of(ask("nobody")) is grpc.StatusCode.NOT_FOUND


async def test_a_result_that_divides_totals_alone_has_no_scores(world: World) -> None:
    markov = attribution_pb2.Model(markov=attribution_pb2.Markov())
    await world.run(report_id="weekly", models=[markov])
    assert await code_of(streamed(world)) is grpc.StatusCode.INVALID_ARGUMENT


def many_events(lake: Path) -> str:
    """Two hundred units with one to three touches of five channels, one of them of two units."""
    touches, bought = [], []
    for number in range(200):
        unit = f"unit-{number:03}"
        common = {"project": "demo", "unit_id": unit, "position": 2}
        channels = ["ads", "mail", "search", "video"][: number % 3 + 1]
        if number in (7, 8):
            channels.append("rare")
        touches += [
            {**common, "event_id": f"t-{number}-{day}", "event_time": moment(day), "channel": name}
            for day, name in enumerate(channels)
        ]
        if number % 4 == 0:
            bought.append(
                {
                    **common,
                    "event_id": f"c-{number}",
                    "event_time": moment(5),
                    "event_name": "buy",
                    "value": float(number % 7 + 1),
                }
            )
    tables = {
        "touchpoints": table_of("touchpoints", touches),
        "conversions": table_of("conversions", bought),
    }
    return LakeWriter(lake, "journal-a", FixedClock(NOW)).append(tables, 2).token()


def model(kind: str, **fields: Any) -> attribution_pb2.Model:
    message = attribution_pb2.Model()
    getattr(message, kind).SetInParent()
    for name, value in fields.items():
        setattr(getattr(message, kind), name, value)
    return message


async def test_every_figure_has_an_interval_or_says_why_not(world: World) -> None:
    many_events(world.lake)
    kinds = ("linear", "markov", "probabilistic", "fractribution", "additive_hazard")
    models = [*map(model, kinds), model("bagged_logistic", rounds=1000)]
    asked = uncertainty_pb2.Bootstrap(replicates=400)
    report = await world.run(report_id="weekly", models=models, bootstrap=asked)

    assert (report.bootstrap.replicates, report.bootstrap.level) == (400, 0.95)
    *found, bags = report.results
    for result in found:
        assert (result.replicates.defined, result.replicates.why_none) == (400, "")
        for channel in result.channels:
            spans = channel.intervals
            assert spans.conversions.low <= channel.conversions <= spans.conversions.high
            assert spans.share.low <= channel.share <= spans.share.high
            assert spans.value.low <= channel.value <= spans.value.high
            assert spans.HasField("removal_effect") == channel.HasField("removal_effect")
    assert not any(channel.HasField("intervals") for channel in bags.channels)
    assert "a replicate takes about" in bags.replicates.why_none
    kind = attribution_pb2.WARNING_KIND_NO_INTERVAL
    assert [w.model_name for w in report.warnings if w.kind == kind] == ["bagged_logistic"]


async def test_intervals_can_be_asked_for_otherwise_or_not_at_all(world: World) -> None:
    many_events(world.lake)
    few = uncertainty_pb2.Bootstrap(replicates=20, seed=3, level=0.5)
    one = await world.run(report_id="one", bootstrap=few, models=[LINEAR])
    narrow = one.results[0].channels[0].intervals.conversions
    wide = (await world.run(report_id="two", models=[LINEAR])).results[0].channels[0]
    none = await world.run(
        report_id="none",
        bootstrap=uncertainty_pb2.Bootstrap(off=True),
        held_out=held_out_pb2.HeldOut(off=True),
        models=[LINEAR],
    )

    assert one.bootstrap == few
    assert narrow.high - narrow.low < 0.6 * (
        wide.intervals.conversions.high - wide.intervals.conversions.low
    )
    assert not none.results[0].HasField("replicates")
    assert not none.results[0].channels[0].HasField("intervals")
    assert (list(none.fits), none.bootstrap.off, none.held_out.off) == ([], True, True)
    alone = world.begin(bootstrap=uncertainty_pb2.Bootstrap(replicates=1))
    assert await code_of(alone) is grpc.StatusCode.INVALID_ARGUMENT


async def test_channels_that_few_units_met_are_told_of_together(world: World) -> None:
    many_events(world.lake)
    report = await world.run(report_id="weekly", min_units=30, models=[LINEAR, model("markov")])

    channels = [channel.channel for channel in report.activity]
    # Two units met "rare", which are too few together, so that "search" joins it.
    assert channels == ["ads", "mail"]
    told = report.suppressed_channels
    assert (told.channels, told.min_units, told.withheld) == (2, 30, False)
    assert told.activity.units >= 30
    assert not {"rare", "search"} & {*str(report).split('"')}
    for result in report.results:
        rows = [*result.channels, result.suppressed]
        total = sum(row.conversions for row in rows)
        assert total == pytest.approx(report.summary.converting_journeys)
        assert result.suppressed.HasField("intervals")
        assert not result.suppressed.HasField("removal_effect")
    paths = await world.call("ListPaths", pb.ListPathsRequest(name=WEEKLY))
    assert not {"rare", "search"} & {*str(paths).split('"')}
    compared = await world.call("CompareModels", pb.CompareModelsRequest(name=WEEKLY))
    assert "" in {row.channel for pair in compared.pairs for row in pair.channels}


async def test_models_are_judged_by_units_that_are_held_out(world: World) -> None:
    many_events(world.lake)
    kinds = ("linear", "markov", "probabilistic")
    report = await world.run(report_id="weekly", models=[model(kind) for kind in kinds])
    compared = await world.call("CompareModels", pb.CompareModelsRequest(name=WEEKLY), "viewer")

    assert report.held_out.part == 0.2
    linear, markov, probabilistic = compared.fits
    assert compared.fits == report.fits
    assert "predicts none" in linear.why_none
    assert (markov.model_name, list(markov.result_indexes)) == ("markov_1", [1, 2])
    for fit in (markov, probabilistic):
        assert 20 <= fit.journeys <= 70
        assert 0 <= fit.auc <= 1
        assert fit.log_loss > 0 < fit.base_log_loss
        assert sum(each.journeys for each in fit.bins) == fit.journeys
    kind = attribution_pb2.WARNING_KIND_FEW_HELD_OUT
    assert {w.model_name for w in report.warnings if w.kind == kind} == {
        "markov_1",
        "probabilistic",
    }


async def test_the_order_of_a_chain_is_chosen_and_told(world: World) -> None:
    many_events(world.lake)
    automatic = model("markov", automatic_order=True, highest_order=3)
    report = await world.run(report_id="weekly", models=[automatic])

    result = report.results[0]
    told = result.order_selection
    assert [fit.order for fit in told.orders] == [1, 2, 3]
    assert result.model.markov.order == told.chosen
    assert not result.model.markov.automatic_order
    best = max(told.orders, key=lambda fit: (fit.penalised_auc, -fit.order))
    assert best.order == told.chosen
    # The scores are those of the order that was taken.
    request = score_service_pb2.StreamScoresRequest(report=WEEKLY, result_index=1)
    replies = await world.stream("StreamScores", request)
    assert replies[-1].complete
    both = model("markov", automatic_order=True, order=2)
    assert await code_of(world.begin(models=[both])) is grpc.StatusCode.INVALID_ARGUMENT


async def test_ordered_and_learned_games_are_told(world: World) -> None:
    many_events(world.lake)
    ordered = model("shapley", game=attribution_pb2.SHAPLEY_GAME_ORDERED, positions=2)
    learned = model("shapley", game=attribution_pb2.SHAPLEY_GAME_LEARNED, seed=4)
    learned.shapley.learner.rounds = 10
    simple = model("shapley")
    report = await world.run(report_id="weekly", models=[ordered, learned, simple])

    first, second, third = report.results
    assert first.model_name == "shapley_ordered"
    for channel, same in zip(first.channels, third.channels, strict=True):
        assert len(channel.positions) == 2
        bought = sum(place.conversions for place in channel.positions)
        assert bought == pytest.approx(channel.conversions) == pytest.approx(same.conversions)
    assert second.model_name == "shapley_learned"
    assert second.model.shapley.learner.rounds == 10
    assert all(channel.sampling_std_err == 0 for channel in second.channels)
    total = sum(channel.conversions for channel in second.channels) + second.uncredited
    assert total == pytest.approx(report.summary.converting_journeys)
    request = score_service_pb2.StreamScoresRequest(report=WEEKLY, result_index=1)
    refused = world.stream("StreamScores", request)
    assert await code_of(refused) is grpc.StatusCode.INVALID_ARGUMENT
    stray = model("shapley", positions=3)
    assert await code_of(world.begin(models=[stray])) is grpc.StatusCode.INVALID_ARGUMENT
