"""What the services found, beside what is true."""

from __future__ import annotations

from collections.abc import Iterator

from touchstone.attribution.v1 import attribution_service_pb2 as attribution_pb
from touchstone.results.v1 import results_pb2

from services.cli.commands.results import Method, comparison_cells
from services.cli.figures import estimate, last_part, p_value, percent, probability, share
from services.cli.rendering import Cell, Column, View
from services.cli.tutorial.shop import EXPERIMENT, true_lift
from services.cli.tutorial.visitors import CHANNELS, EVENT_NAME, true_shares


def _money(cell: Cell) -> str:
    assert isinstance(cell, int | float)
    return f"{cell:.4f}"


_RESULT_COLUMNS = (
    Column("metric"),
    Column("variant"),
    Column("control", _money, right=True),
    Column("treatment", _money, right=True),
    Column("lift", percent, right=True),
    Column("95 % low", percent, right=True),
    Column("95 % high", percent, right=True),
    Column("true lift", percent, right=True),
    Column("covered"),
    Column("p-value", p_value, right=True),
    Column("P(better)", probability, right=True),
)


def results_view(results: results_pb2.Results) -> View:
    """A row for each metric and treatment."""
    return View(results, _RESULT_COLUMNS, list(_result_rows(results)), f"Experiment {EXPERIMENT}")


def attribution_view(reply: attribution_pb.GetAttributionResponse) -> View:
    """A row for each channel, a column for each model, and how far each is from the truth."""
    truth = dict(zip(CHANNELS, true_shares().tolist(), strict=True))
    credited = {
        result.model_name: {channel.channel: channel.share for channel in result.channels}
        for result in reply.results
    }
    head = (Column("channel"), Column("truth", share, right=True))
    models = tuple(Column(name, share, right=True) for name in credited)
    rows: list[tuple[Cell, ...]] = [
        (channel, true, *(shares.get(channel, 0.0) for shares in credited.values()))
        for channel, true in truth.items()
    ]
    errors = (
        sum(abs(shares.get(channel, 0.0) - true) for channel, true in truth.items()) / len(truth)
        for shares in credited.values()
    )
    rows.append(("mean error", None, *errors))
    return View(reply, (*head, *models), rows, f"Credit for {EVENT_NAME}, share of each channel")


def _result_rows(results: results_pb2.Results) -> Iterator[tuple[Cell, ...]]:
    control = next(arm.variant for arm in results.arms if arm.control)
    for metric in results.metrics:
        name = last_part(metric.metric)
        means = {arm.variant: estimate(arm.mean) for arm in metric.arms}
        for comparison in metric.comparisons:
            cells = comparison_cells(comparison, metric.kind, Method.FIXED)
            lift, low, high, p, better = cells[3:]
            true = true_lift(name, comparison.variant)
            yield (
                name,
                comparison.variant,
                means[control],
                means[comparison.variant],
                lift,
                low,
                high,
                true,
                _covers(low, true, high),
                p,
                better,
            )


def _covers(low: Cell, true: float, high: Cell) -> Cell:
    if not isinstance(low, float) or not isinstance(high, float):
        return None
    return low <= true <= high
