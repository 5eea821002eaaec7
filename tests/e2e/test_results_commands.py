"""What experiments show, from the command line, over the running suite: bandits that change
decisions, experiments that act on each other, journeys, looks, watches and simulations.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from touchstone.assignment.v1 import assignment_service_pb2 as assign_pb
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assign_grpc
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_grpc
from touchstone.events.v1 import event_pb2
from touchstone.results.v1 import results_service_pb2 as results_pb
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT, log, stamp, user


@pytest.fixture(scope="module")
def suite(module_suite: Suite) -> Suite:
    """Of its own: what is counted here is all that there is."""
    return module_suite


def started(suite: Suite, experiment_id: str, variants: Sequence[str], **fields: Any) -> None:
    """A running experiment whose variants share the units as equally as weights can; the first is
    the control.
    """
    stub = experiment_grpc.ExperimentServiceStub(suite.channel("assignment"))
    share, rest = divmod(10_000, len(variants))
    weights = [share + (place < rest) for place in range(len(variants))]
    made = stub.CreateExperiment(
        experiment_pb.CreateExperimentRequest(
            parent=PROJECT,
            experiment_id=experiment_id,
            experiment=experiment_pb2.Experiment(
                variants=[
                    experiment_pb2.Variant(key=key, weight=weight)
                    for key, weight in zip(variants, weights, strict=True)
                ],
                **fields,
            ),
        ),
        metadata=suite.metadata,
    ).experiment
    stub.StartExperiment(
        experiment_pb.StartExperimentRequest(name=made.name), metadata=suite.metadata
    )


def weights_of(suite: Suite, experiment_id: str) -> dict[str, int]:
    stub = experiment_grpc.ExperimentServiceStub(suite.channel("assignment"))
    name = f"{PROJECT}/experiments/{experiment_id}"
    found = stub.GetExperiment(
        experiment_pb.GetExperimentRequest(name=name), metadata=suite.metadata
    ).experiment
    return {variant.key: variant.weight for variant in found.variants}


def assigned(
    suite: Suite, experiments: Sequence[str], numbers: range
) -> list[tuple[int, dict[str, str]]]:
    """For each unit the configuration version, and its variant in each experiment."""
    stub = assign_grpc.AssignmentServiceStub(suite.channel("assignment"))
    found = []
    for first in range(numbers.start, numbers.stop, 2000):
        batch = range(first, min(first + 2000, numbers.stop))
        reply = stub.Assign(
            assign_pb.AssignRequest(
                units=[assign_pb.UnitContext(ids=[user(number)]) for number in batch],
                experiments=experiments,
            ),
            metadata=suite.metadata,
        )
        for unit in reply.units:
            variants = [decision.variant for decision in unit.decisions]
            pairs = dict(zip(experiments, variants, strict=True))
            found.append((reply.config_version, pairs))
    return found


def exposed(
    numbers: range, decided: Sequence[tuple[int, Mapping[str, str]]], name: str, bought: np.ndarray
) -> list[event_pb2.Event]:
    """An exposure of every unit to each of its variants, and the event of those that bought."""
    events = []
    for number, (version, variants), buys in zip(numbers, decided, bought, strict=True):
        for experiment, variant in variants.items():
            exposure = event_pb2.Exposure(
                experiment=experiment, variant=variant, config_version=version
            )
            events.append(
                event_pb2.Event(
                    event_id=f"{name}-{experiment}-{number}",
                    event_time=stamp(number),
                    unit=user(number),
                    exposure=exposure,
                )
            )
        if buys:
            events.append(
                event_pb2.Event(
                    event_id=f"{name}-bought-{number}",
                    event_time=stamp(number + 60),
                    unit=user(number),
                    conversion=event_pb2.Conversion(event_name=name, value=1.0),
                )
            )
    return events


def logged(suite: Suite, experiment_id: str, events: Sequence[event_pb2.Event]) -> None:
    """Logs the events; whatever is asked of results afterwards has seen them all."""
    results_grpc.ResultsServiceStub(suite.channel("results")).GetHealth(
        results_pb.GetHealthRequest(
            experiment=f"{PROJECT}/experiments/{experiment_id}",
            consistency_token=log(suite, list(events)),
        ),
        metadata=suite.metadata,
    )


def answer_of(suite: Suite, *arguments: str, key: str) -> dict[str, Any]:
    """What the JSON answer of a command holds under a key."""
    answer: dict[str, Any] = json.loads(suite.run(*arguments, "--output", "json").stdout)[key]
    return answer


def test_weights_of_a_bandit_follow_the_evidence_and_change_decisions(suite: Suite) -> None:
    variants = ("plain", "bright")
    started(suite, "banner", variants, allocation=experiment_pb2.ALLOCATION_BANDIT)
    suite.run("metric", "create", "banner-click", "--kind", "proportion", "--title", "Clicks")
    rate = {"plain": 0.10, "bright": 0.16}
    rng = np.random.default_rng(3)

    def played(numbers: range) -> tuple[int, Counter[str]]:
        decided = assigned(suite, ["banner"], numbers)
        chances = np.array([rate[found["banner"]] for _, found in decided])
        bought = rng.random(len(numbers)) < chances
        logged(suite, "banner", exposed(numbers, decided, "banner-click", bought))
        (version,) = {version for version, _ in decided}
        return version, Counter(found["banner"] for _, found in decided)

    first, even = played(range(500_000, 504_000))
    assert abs(even["bright"] - 2000) < 200
    asked = ("banner", "--metric", "banner-click")
    held = suite.run("bandit", "apply", *asked, "--least-units", "1000000")
    assert "the weights are held: too few units" in held.stderr
    assert weights_of(suite, "banner") == {"plain": 5000, "bright": 5000}

    computed = answer_of(suite, "bandit", "compute", *asked, key="weights")
    wanted = {arm["variant"]: arm["weight"] for arm in computed["arms"]}
    assert wanted["bright"] > 9000
    assert [period["config_version"] for period in computed["periods"]] == [str(first)]
    dry = suite.run("bandit", "apply", *asked, "--dry-run")
    assert "the weights could be set" in dry.stderr
    assert weights_of(suite, "banner") == {"plain": 5000, "bright": 5000}

    pinned = ("--as-of", computed["watermark"], "--etag", computed["etag"])
    done = suite.run("bandit", "apply", *asked, *pinned)
    assert "the weights are set" in done.stderr
    assert weights_of(suite, "banner") == wanted
    stale = suite.run("bandit", "apply", *asked, *pinned, status=1)
    assert "ABORTED" in stale.stderr or "etag" in stale.stderr
    entries = suite.run("audit", "list", "--limit", "100000", "--output", "json").stdout
    assert "SetVariantWeights" in entries

    second, shifted = played(range(504_000, 512_000))
    assert second > first
    assert abs(shifted["bright"] / 8000 - wanted["bright"] / 10_000) < 0.02
    # Whoever had a variant keeps it.
    again = assigned(suite, ["banner"], range(500_000, 500_500))
    assert {found["banner"] for _, found in again} == set(variants)

    learned = answer_of(suite, "bandit", "compute", *asked, key="weights")
    assert [period["config_version"] for period in learned["periods"]] == [str(first), str(second)]
    assert all(period["counts"] for period in learned["periods"])
    for arm in learned["arms"]:
        error = arm["mean"]["value"] - rate[arm["variant"]]
        assert abs(error) < 4 * arm["std_err"]["value"]


def test_experiments_that_act_on_each_other_are_found(suite: Suite) -> None:
    for experiment in ("header", "footer"):
        started(suite, experiment, ("old", "new"))
    for metric in ("together", "apart"):
        suite.run("metric", "create", metric, "--kind", "proportion")
    numbers = range(600_000, 606_000)
    decided = assigned(suite, ["header", "footer"], numbers)
    rng = np.random.default_rng(4)
    both = np.array([set(found.values()) == {"new"} for _, found in decided])
    apart = exposed(numbers, decided, "apart", rng.random(6000) < 0.1)
    events = [
        *exposed(numbers, decided, "together", rng.random(6000) < 0.1 + 0.15 * both),
        *(event for event in apart if event.HasField("conversion")),
    ]
    logged(suite, "header", events)

    # Assignment is drawn anew in every run: at this level nothing is found by chance.
    asked = ("header", "--metric", "together", "--metric", "apart", "--alpha", "0.000001")
    answer = json.loads(suite.run("results", "interactions", *asked, "-o", "json").stdout)
    other = next(one for one in answer["experiments"] if one["experiment"].endswith("footer"))
    assert sum(int(count) for row in other["rows"] for count in row["units"]) == len(numbers)
    assert other["dependence_p_value"]["value"] > 1e-6, other["rows"]
    found = {one["metric"].rpartition("/")[2]: one for one in other["metrics"]}
    assert found["together"]["adjusted_p_value"]["value"] < 1e-6
    assert found["apart"]["adjusted_p_value"]["value"] > 1e-6
    (pair,) = found["together"]["pairs"]
    assert pair["difference_interval"]["low"] < 0.15 < pair["difference_interval"]["high"]
    table = suite.run("results", "interactions", *asked).stdout
    assert "footer" in table
    assert "pair_p_value" in table


@pytest.fixture(scope="module")
def journey(suite: Suite) -> int:
    """A journey with two waves beside those who were kept out, and how many units it has."""
    started(suite, "journey", ("kept-out", "coupon", "call"))
    suite.run("metric", "create", "paid", "--kind", "proportion", "--role", "primary")
    numbers = range(700_000, 703_000)
    decided = assigned(suite, ["journey"], numbers)
    rate = {"kept-out": 0.1, "coupon": 0.2, "call": 0.11}
    chances = np.array([rate[found["journey"]] for _, found in decided])
    bought = np.random.default_rng(5).random(3000) < chances
    logged(suite, "journey", exposed(numbers, decided, "paid", bought))
    suite.run("results", "show", "journey", "--metric", "paid")
    return len(numbers)


def test_a_journey_is_evaluated(suite: Suite, journey: int) -> None:
    asked = (
        *("results", "evaluate", "--control", "journey=kept-out", "--metric", "paid"),
        *("--wave", "journey=coupon", "--wave", "journey=call", "--alpha", "0.000001"),
    )
    rows = list(csv.DictReader(io.StringIO(suite.run(*asked, "--output", "csv").stdout)))
    assert [row["group"] for row in rows] == [
        "journey=kept-out",
        "journey=coupon",
        "journey=call",
        "all waves",
    ]
    assert sum(int(row["units"]) for row in rows[:3]) == journey
    assert float(rows[1]["ratio_low"]) < 2 < float(rows[1]["ratio_high"])
    assert float(rows[1]["adjusted_p_value"]) < 0.001
    assert "all waves" in suite.run(*asked).stdout


def test_results_by_day_by_look_and_as_they_come(suite: Suite, journey: int) -> None:
    by_day = suite.run("results", "time-series", "journey", "--metric", "paid", "-o", "csv").stdout
    days = list(csv.DictReader(io.StringIO(by_day)))
    assert sum(int(row["new_units"]) for row in days) == journey
    suite.run("results", "time-series", "journey", "--metric", "paid")

    looks = json.loads(suite.run("results", "looks", "journey", "--output", "json").stdout)["looks"]
    assert {look["variant"] for look in looks} == {"coupon", "call"}
    assert "coupon" in suite.run("results", "looks", "journey").stdout

    told = suite.run(
        *("results", "watch", "journey", "--metric", "paid", "--times", "1", "--output", "json")
    )
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["complete"] for line in lines] == [True]
    assert sum(int(arm["units"]) for arm in lines[0]["results"]["arms"]) == journey
    shown = suite.run("results", "watch", "journey", "--metric", "paid", "--times", "1")
    assert "coupon" in shown.stdout
    assert "method anytime: neither a number of units nor an end is planned" in shown.stderr


def test_methods_are_tried_on_units_to_whom_nothing_was_done(suite: Suite, journey: int) -> None:
    assert journey
    asked = ("experiment", "simulate-null", "paid", "--like", "journey", "--repetitions", "400")
    (row,) = csv.DictReader(io.StringIO(suite.run(*asked, "--output", "csv").stdout))
    assert row["looks"] == "1"
    assert float(row["rate"]) < 0.15
    spending = suite.run(*asked, "--method", "group-sequential", "-o", "csv")
    (row,) = csv.DictReader(io.StringIO(spending.stdout))
    assert row["looks"] == "28"
    assert float(row["rate"]) < 0.15
    peeking = suite.run(*asked, "--looks", "28")
    assert "does not keep its promise" in peeking.stderr


def test_a_plan_is_changed_until_the_first_look(suite: Suite, journey: int) -> None:
    assert journey
    started(suite, "planned", ("old", "new"))
    changed = (
        "results",
        "change-plan",
        "planned",
        "--planned-units",
        "5000",
        "--role",
        "paid=primary",
    )
    plan = json.loads(suite.run(*changed, "--output", "json").stdout)["analysis_plan"]
    assert (plan["version"], plan["planned_units"]) == ("1", "5000")
    assert plan["metrics"][0]["role"] == "METRIC_ROLE_PRIMARY"
    shown = suite.run("results", "plan", "planned").stdout
    assert "group-sequential" in shown
    assert "metric paid" in shown
    first = json.loads(suite.run("results", "plan", "planned", "-o", "json").stdout)
    assert first["analysis_plan"]["etag"] == "1"
    suite.run("results", "show", "journey", "--metric", "paid")
    refused = suite.run("results", "change-plan", "journey", "--alpha", "0.1", status=1)
    assert "looks were taken under this plan" in refused.stderr


def test_a_metric_of_every_kind_and_its_versions(suite: Suite) -> None:
    kinds: dict[str, Sequence[str]] = {
        "mean": ("--currency", "EUR", "--cap-percentile", "0.999"),
        "ratio": ("--event-name", "order", "--denominator", "visit=count"),
        "quantile": ("--quantile", "0.95", "--of-events"),
        "funnel": ("--step", "seen", "--step", "sent"),
        "retention": ("--event-name", "visit", "--days", "7-13"),
        "time-to-event": ("--window-days", "14", "--direction", "decrease"),
    }
    for kind, more in kinds.items():
        suite.run("metric", "create", f"of-{kind}", "--kind", kind, *more)
    listed = json.loads(suite.run("metric", "versions", "of-ratio", "-o", "json").stdout)["metrics"]
    assert [one["version"] for one in listed] == ["1"]
    assert listed[0]["denominator"]["aggregation"] == "AGGREGATION_COUNT"
    assert "retention" in suite.run("metric", "versions", "of-retention").stdout


def test_a_program_is_summed_up(suite: Suite, journey: int) -> None:
    assert journey
    done = suite.run("results", "program", "paid")
    assert "experiments passed the test" in done.stderr


def openings(
    numbers: range, decided: Sequence[tuple[int, Mapping[str, str]]], rng: np.random.Generator
) -> tuple[list[event_pb2.Event], Counter[tuple[str, str, str]]]:
    """Exposures with a country, a form and a signature; in one country more sign the new page.
    Beside them how many of each variant and country did each.
    """
    events, counts = [], Counter[tuple[str, str, str]]()
    for event in exposed(numbers, decided, "opening", np.zeros(len(numbers), bool)):
        variant, country = event.exposure.variant, str(rng.choice(["at", "ch"]))
        event.properties["country"] = country
        events.append(event)
        chance = 0.8 if (variant, country) == ("new", "ch") else 0.4
        steps = ["form"] * int(rng.random() < 0.5)
        steps += ["signed"] * int(bool(steps) and rng.random() < chance)
        for place, name in enumerate(steps):
            step = event_pb2.Event(event_id=f"{event.event_id}-{name}", unit=event.unit)
            step.event_time.FromSeconds(event.event_time.seconds + 60 + place)
            step.conversion.event_name = name
            events.append(step)
        for name in ("seen", *steps):
            counts[variant, country, name] += 1
    return events, counts


def test_parts_of_the_population_and_the_steps_of_a_funnel(suite: Suite) -> None:
    started(suite, "opening", ("old", "new"))
    suite.run("metric", "create", "signed", "--kind", "proportion")
    suite.run("metric", "create", "steps", "--kind", "funnel", "--step", "form", "--step", "signed")
    numbers = range(800_000, 804_000)
    decided = assigned(suite, ["opening"], numbers)
    events, counts = openings(numbers, decided, np.random.default_rng(6))
    logged(suite, "opening", events)

    asked = ("opening", "--metric", "signed")
    split = ("results", "slices", *asked, "--dimension", "properties.country")
    rows = list(csv.DictReader(io.StringIO(suite.run(*split, "--output", "csv").stdout)))
    assert len(rows) == 4
    for row in rows:
        seen, signed = (counts[row["variant"], row["slice"], name] for name in ("seen", "signed"))
        assert int(row["units"]) == seen
        assert float(row["mean"]) == pytest.approx(signed / seen)
    told = suite.run(*split).stderr
    assert "signed, new: the same effect in all slices of properties.country: p " in told
    assert "there are no slices" in suite.run("results", "slices", *asked).stderr

    steps = suite.run("results", "funnel", "opening", "--metric", "steps", "--output", "csv")
    found = {
        (one["step"], one["variant"]): one for one in csv.DictReader(io.StringIO(steps.stdout))
    }
    for variant in ("old", "new"):
        form, signed = (
            sum(counts[variant, country, name] for country in ("at", "ch"))
            for name in ("form", "signed")
        )
        assert int(found["form", variant]["units"]) == form
        assert int(found["signed", variant]["left"]) == form - signed
        assert float(found["signed", variant]["passed"]) == pytest.approx(signed / form)
    assert float(found["signed", "new"]["p_value"]) < 1e-3
    assert "signed" in suite.run("results", "funnel", "opening", "--metric", "steps").stdout
    assert "none of these metrics is a funnel" in suite.run("results", "funnel", *asked).stderr
