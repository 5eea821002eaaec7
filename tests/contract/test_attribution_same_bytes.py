"""The same events give the same report to the last byte, however they arrived and are stored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.application.get_attribution import Progress
from services.attribution.application.reports import run_report
from services.attribution.limits import AttributionLimits
from services.attribution.wire.reports import decode_run, stored_report
from shared.identity.reader import IdentityReader
from shared.lake.rows import table_of
from shared.lake.snapshot import LakeEventTables
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from shared.testing.policies import FixedPolicies
from tests.contract.attribution_world import NOW, moment

Row = dict[str, Any]
KINDS = ("linear", "time_decay", "probabilistic", "bagged_logistic", "fractribution")
LEARNED = attribution_pb2.SHAPLEY_GAME_LEARNED


def asked(as_of: str = "") -> pb.RunAttributionRequest:
    models = [attribution_pb2.Model() for _ in KINDS]
    for model, kind in zip(models, KINDS, strict=True):
        getattr(model, kind).SetInParent()
    models[3].bagged_logistic.rounds = 5
    models += [
        attribution_pb2.Model(markov=attribution_pb2.Markov(automatic_order=True)),
        attribution_pb2.Model(markov=attribution_pb2.Markov(order=2)),
        attribution_pb2.Model(shapley=attribution_pb2.Shapley(game=LEARNED)),
    ]
    models[-1].shapley.learner.rounds = 5
    request = pb.RunAttributionRequest(
        parent="projects/demo",
        journeys=attribution_pb2.JourneyDefinition(event_name="buy"),
        models=models,
        as_of=as_of,
        min_units=20,
    )
    request.bootstrap.replicates = 20
    return request


def drawn() -> tuple[list[Row], list[Row]]:
    """Touches with costs that do not add up alike in every order, and conversions with values."""
    generator = np.random.default_rng(20260101)
    touches = [
        {
            "event_id": f"t-{number}",
            "project": "demo",
            "unit_id": f"unit-{number % 120}",
            "event_time": moment(float(day)),
            "channel": f"channel-{channel}",
            "cost": float(cost),
            "currency": "EUR",
        }
        for number, (day, channel, cost) in enumerate(
            zip(
                generator.integers(0, 9, 500),
                generator.integers(0, 6, 500),
                generator.random(500),
                strict=True,
            )
        )
    ]
    bought = [
        {
            "event_id": f"c-{number}",
            "project": "demo",
            "unit_id": f"unit-{number}",
            "event_time": moment(10.0),
            "event_name": "buy",
            "value": float(value),
            "currency": "EUR",
        }
        for number, value in enumerate(generator.random(60))
    ]
    return touches, bought


def stored(folder: Path, flushes: int, seed: int | None) -> LakeWriter:
    """Write the events in so many flushes, in an order of arrival."""
    touches, bought = drawn()
    rows = [("touchpoints", row) for row in touches] + [("conversions", row) for row in bought]
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(rows))
        rows = [rows[place] for place in order.tolist()]
    writer = LakeWriter(folder, "journal-a", FixedClock(NOW))
    for flush in range(flushes):
        part, position = rows[flush::flushes], flush + 1
        tables = {
            name: table_of(name, [{**row, "position": position} for of, row in part if of == name])
            for name in ("touchpoints", "conversions")
        }
        writer.append({name: t for name, t in tables.items() if t.num_rows}, position)
    return writer


def report_of(folder: Path, as_of: str = "") -> report_pb2.AttributionReport:
    log = LakeJourneyLog(LakeEventTables(folder), IdentityReader(FixedPolicies()))
    command = decode_run(asked(as_of), "demo")
    found = run_report(command, log, AttributionLimits(), Progress())
    kept = stored_report("weekly", NOW, command, found)
    report = report_pb2.AttributionReport.FromString(kept.document)
    paths = report_pb2.ReportPaths.FromString(kept.paths)
    assert paths.rows
    return report


def said(report: report_pb2.AttributionReport) -> bytes:
    """All that a report says but for the cut that it read, whose name differs between lakes."""
    told = report_pb2.AttributionReport()
    told.CopyFrom(report)
    told.ClearField("digest")
    told.provenance.ClearField("watermark")
    told.provenance.ClearField("watermark_time")
    return told.SerializeToString(deterministic=True)


@pytest.mark.parametrize(("flushes", "seed"), [(1, 1), (7, 2), (40, 3)])
def test_reports_do_not_depend_on_the_order_of_arrival_and_on_files(
    tmp_path: Path, flushes: int, seed: int
) -> None:
    stored(tmp_path / "plain", 1, None)
    stored(tmp_path / "other", flushes, seed)

    plain, other = report_of(tmp_path / "plain"), report_of(tmp_path / "other")

    assert said(plain) == said(other)
    assert plain.results[0].channels[0].HasField("intervals")
    assert plain.fits[2].HasField("auc")


def test_the_same_cut_gives_the_same_digest_after_upkeep_and_later_events(tmp_path: Path) -> None:
    writer = stored(tmp_path, 5, 7)
    first = report_of(tmp_path)
    row = {**drawn()[0][0], "event_id": "late", "channel": "late", "position": 6}
    writer.append({"touchpoints": table_of("touchpoints", [row])}, 6)
    newest = report_of(tmp_path)
    again = report_of(tmp_path, first.provenance.watermark)
    writer.tidy(30)
    tidied = report_of(tmp_path)

    assert first.digest == again.digest
    assert newest.digest != first.digest
    assert said(newest) == said(tidied)
