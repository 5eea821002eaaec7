"""Files of real experiments and journeys go through the public RPCs and come out as results that
equal a computation straight from the file.

The real files lie beside the checkout where there is one; elsewhere the tests make files of the
same shape, so that they mean the same everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.e2e.suite import Suite

DATA = Path(__file__).parents[3] / "shared" / "data"
SHOW = ("results", "show", "hillstrom", "--method", "fixed")
METRICS = ("visit", "conversion", "spend")
ARMS = {"no-e-mail": "No E-Mail", "mens-e-mail": "Mens E-Mail", "womens-e-mail": "Womens E-Mail"}


@pytest.fixture(scope="module")
def email_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished e-mail test: one row a customer, no id column."""
    real = DATA / "hillstrom.csv"
    if real.exists():
        return real
    rng = np.random.default_rng(11)
    rows = 6000
    arm = rng.choice(list(ARMS.values()), rows)
    visit = (rng.random(rows) < np.where(arm == "No E-Mail", 0.10, 0.16)).astype(int)
    buys = visit * (rng.random(rows) < 0.2)
    frame = pd.DataFrame(
        {
            "recency": rng.integers(1, 13, rows),
            "history": np.round(rng.lognormal(5, 1, rows), 2),
            "zip_code": rng.choice(["Urban", "Rural"], rows),
            "treatment": arm,
            "conversion": buys,
            "visit": visit,
            "spend": np.round(buys * rng.lognormal(4, 1, rows), 2),
        }
    )
    path = tmp_path_factory.mktemp("files") / "hillstrom.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def journeys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Impressions and conversions of customers over five channels, in no order."""
    real = DATA / "journeys.csv"
    if real.exists():
        return real
    rng = np.random.default_rng(12)
    rows = 8000
    converts = rng.random(rows) < 0.1
    seconds = rng.permutation(30 * 86400)[:rows]
    frame = pd.DataFrame(
        {
            "customer_id": [f"A{number:06d}" for number in rng.integers(0, 1500, rows)],
            "time": pd.Timestamp("2018-07-01") + pd.to_timedelta(seconds, unit="s"),
            "interaction": np.where(converts, "conversion", "impression"),
            "conversion": converts.astype(int),
            "conversion_value": np.where(converts, np.round(rng.gamma(2, 3, rows), 2), 0),
            "channel": rng.choice(
                ["Facebook", "Instagram", "Online Display", "Online Video", "Paid Search"], rows
            ),
        }
    )
    path = tmp_path_factory.mktemp("files") / "journeys.csv"
    frame.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    return path


def import_experiment(
    suite: Suite, path: Path, experiment: str = "hillstrom", covariate: str = ""
) -> dict[str, Any]:
    """Imports the e-mail test as its owner would, and returns the summary."""
    metrics = ("visit:proportion", "conversion:proportion", "spend:mean")
    done = suite.run(
        *("import", "experiment", str(path), "--experiment", experiment, "--unit", "row"),
        *("--variant", "treatment", "--control", "No E-Mail"),
        *(("--covariate", covariate) if covariate else ()),
        *(part for metric in metrics for part in ("--metric", metric)),
        *("--attribute", "zip_code", "--currency", "USD", "-o", "json"),
    )
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def test_the_email_test(suite: Suite, email_test: Path) -> None:
    """Every arm, metric, lift, interval, p-value and probability; importing twice adds nothing."""
    first = import_experiment(suite, email_test)
    frame = pd.read_csv(email_test)
    assert first["rows"] == len(frame)
    assert first["rejected"] == 0
    shown = json.loads(suite.run(*SHOW, "-o", "json").stdout)
    check_against_file(shown["results"], frame)

    second = import_experiment(suite, email_test)
    assert second["accepted"] == 0
    again = json.loads(suite.run(*SHOW, "-o", "json").stdout)
    for results in (shown["results"], again["results"]):
        del results["provenance"]
    assert again == shown


def test_what_was_known_before_the_start_is_used(
    suite: Suite, email_test: Path, tmp_path: Path
) -> None:
    """The covariate's slope is the one within the arms; what it explains is taken out."""
    path = tmp_path / "adjusted.csv"
    frame = pd.read_csv(email_test).head(20_000)
    frame.to_csv(path, index=False)
    import_experiment(suite, path, "adjusted", "history")
    show = ("results", "show", "adjusted", "--metric", "adjusted-visit", "--method", "fixed")
    (metric,) = json.loads(suite.run(*show, "-o", "json").stdout)["results"]["metrics"]
    arm = frame["treatment"]
    within = frame[["visit", "history"]] - frame[["visit", "history"]].groupby(arm).transform(
        "mean"
    )
    slope = (within["visit"] * within["history"]).sum() / (within["history"] ** 2).sum()
    assert metric["covariate_adjustment"]["slopes"][-1] == pytest.approx(slope, rel=1e-9)
    adjusted = frame["visit"] - slope * frame["history"]
    for comparison in metric["comparisons"]:
        treated, control = (
            adjusted[arm == ARMS[one]] for one in (comparison["variant"], "no-e-mail")
        )
        wanted = treated.mean() - control.mean()
        assert comparison["difference"]["value"] == pytest.approx(wanted, rel=1e-9)
        raw = frame["visit"].groupby(arm).mean()
        unadjusted = raw[ARMS[comparison["variant"]]] - raw["No E-Mail"]
        assert comparison["unadjusted"]["difference"]["value"] == pytest.approx(
            unadjusted, rel=1e-9
        )
        (fixed,) = comparison["readings"]
        expected = stats.ttest_ind(treated, control, equal_var=False).confidence_interval(0.95)
        # One degree of freedom goes into the slope.
        assert fixed["difference_interval"]["low"] == pytest.approx(expected.low, rel=1e-3)


def check_against_file(results: dict[str, Any], frame: pd.DataFrame) -> None:
    """Every number equals scipy's, from the file, to 1e-9."""
    arms = [arm["variant"] for arm in results["arms"]]
    assert sorted(arms) == sorted(ARMS)
    for arm in results["arms"]:
        assert int(arm["units"]) == int((frame["treatment"] == ARMS[arm["variant"]]).sum())
    prefix = "hillstrom-"
    ids = [metric["metric"].rsplit("/", 1)[1] for metric in results["metrics"]]
    assert set(ids) == {f"{prefix}{name}" for name in METRICS}, "its own metrics, and no others"
    by_metric = {m["metric"].rsplit(f"/{prefix}", 1)[1]: m for m in results["metrics"]}
    for name in METRICS:
        control = frame.loc[frame["treatment"] == "No E-Mail", name]
        comparisons = by_metric[name]["comparisons"]
        assert len(comparisons) == 2
        for comparison in comparisons:
            treated = frame.loc[frame["treatment"] == ARMS[comparison["variant"]], name]
            expected = stats.ttest_ind(treated, control, equal_var=False)
            interval = expected.confidence_interval(0.95)
            (fixed,) = comparison["readings"]
            for got, want in (
                (comparison["difference"]["value"], treated.mean() - control.mean()),
                (comparison["lift"]["value"], treated.mean() / control.mean() - 1),
                (fixed["p_value"]["value"], expected.pvalue),
                (fixed["difference_interval"]["low"], interval.low),
                (fixed["difference_interval"]["high"], interval.high),
            ):
                assert got == pytest.approx(want, rel=1e-9, abs=1e-14)
            low, high = fixed["lift_interval"]["low"], fixed["lift_interval"]["high"]
            assert low < comparison["lift"]["value"] < high
            probability = comparison["normal_posterior"]["probability_better"]["value"]
            assert 0 <= probability <= 1
    counts = frame["treatment"].value_counts()
    assert results["sample_ratio"]["p_value"]["value"] == pytest.approx(
        stats.chisquare([counts[ARMS[arm]] for arm in arms]).pvalue, rel=1e-9
    )


def test_journeys(suite: Suite, journeys: Path) -> None:
    """Every model; the rules equal a computation from the file; importing twice adds nothing."""
    arguments = (
        *("import", "journeys", str(journeys), "--unit", "customer_id", "--time", "time"),
        *("--channel", "channel", "--interaction", "interaction"),
        *("--conversion-when", "conversion", "--value", "conversion_value"),
        *("--event-name", "order", "-o", "json"),
    )
    first = json.loads(suite.run(*arguments).stdout)
    frame = pd.read_csv(journeys, parse_dates=["time"])
    assert (first["rows"], first["rejected"]) == (len(frame), 0)
    show = ("attribution", "show", "--event-name", "order", "--lookback-days", "31", "-o", "json")
    reply = json.loads(suite.run(*show).stdout)
    converted = frame[frame["interaction"] == "conversion"]
    assert int(reply["summary"]["converting_journeys"]) == len(converted)
    totals = {
        result["model_name"]: {line["channel"]: line for line in result["channels"]}
        for result in reply["results"]
    }
    last = converted["channel"].value_counts()
    for channel, line in totals["last_touch"].items():
        assert line["conversions"] == pytest.approx(last[channel], rel=1e-9)
        value = converted.loc[converted["channel"] == channel, "conversion_value"].sum()
        assert line["value"] == pytest.approx(value, rel=1e-9)
    for lines in totals.values():
        assert sum(line["conversions"] for line in lines.values()) == pytest.approx(len(converted))
    for channel, credit in linear_by_hand(frame).items():
        assert totals["linear"][channel]["conversions"] == pytest.approx(credit, rel=1e-9)

    second = json.loads(suite.run(*arguments).stdout)
    assert second["accepted"] == 0
    again = json.loads(suite.run(*show).stdout)
    assert again["results"] == reply["results"]


def linear_by_hand(frame: pd.DataFrame) -> dict[str, float]:
    """Every touch of a customer up to a conversion gets the same part of it."""
    shares: dict[str, float] = {}
    for _, rows in frame.groupby("customer_id"):
        for when in rows.loc[rows["interaction"] == "conversion", "time"]:
            touches = rows.loc[rows["time"] <= when, "channel"]
            for channel in touches:
                shares[channel] = shares.get(channel, 0.0) + 1 / len(touches)
    return shares


def test_bad_rows_are_kept_with_their_reason(suite: Suite, tmp_path: Path) -> None:
    """A bad row is rejected with its line and reason; the rest goes in."""
    path = tmp_path / "small.csv"
    path.write_text(
        "customer,arm,bought,spend\n"
        "c1,A,1,10.5\n"
        "c2,B,0,0\n"
        "c3,B,maybe,3\n"
        ",A,0,0\n"
        "c5,A,1,inf\n"
        "c6,B,1,2.5\n"
    )
    done = suite.run(
        *("import", "experiment", str(path), "--experiment", "small", "--unit", "customer"),
        *("--variant", "arm", "--metric", "bought:proportion", "--metric", "spend:mean"),
        *("-o", "json"),
        status=3,
    )
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["rejected"]) == (6, 3)
    rejects = pd.read_csv(suite.data.parent / summary["rejects_file"])
    assert list(rejects["line"]) == [4, 5, 6]
    assert "maybe" in rejects["reason"][0]
    shown = json.loads(suite.run("results", "show", "small", "-o", "json").stdout)
    assert sum(int(arm["units"]) for arm in shown["results"]["arms"]) == 3
    made = tmp_path / "small.html"
    suite.run("results", "export", "small", "--format", "html", "--output", str(made))
    assert made.read_text().startswith("<!doctype html>")
    table = suite.run("results", "export", "small", "--format", "csv", "--output", "-").stdout
    assert {"small-bought", "small-spend"} <= {line.split(",")[0] for line in table.splitlines()}


def test_parquet_is_read_like_csv(suite: Suite, tmp_path: Path) -> None:
    """The same rows in the other format."""
    frame = pd.DataFrame(
        {"customer": ["p1", "p2", "p3", "p4"], "arm": ["A", "B", "A", "B"], "bought": [1, 0, 0, 1]}
    )
    frame.to_parquet(tmp_path / "columns.parquet")
    done = suite.run(
        *("import", "experiment", str(tmp_path / "columns.parquet"), "--experiment", "parquet"),
        *("--unit", "customer", "--variant", "arm", "--metric", "bought:proportion"),
        *("-o", "json"),
    )
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["rejected"]) == (4, 0)


def shown_results(suite: Suite, experiment: str, *arguments: str) -> dict[str, Any]:
    done = suite.run("results", "show", experiment, *arguments, "-o", "json")
    results: dict[str, Any] = json.loads(done.stdout)["results"]
    return results


def imported(suite: Suite, path: Path, experiment: str, *more: str, status: int = 0) -> str:
    """Imports a small file and returns what was said."""
    done = suite.run(
        *("import", "experiment", str(path), "--experiment", experiment, "--unit", "customer"),
        *("--variant", "arm", "--metric", "revenue", *more),
        status=status,
    )
    return done.stderr


def test_imports_of_the_same_customers_do_not_count_in_each_other(
    suite: Suite, tmp_path: Path
) -> None:
    """Two experiments with a column of one name; and the same file for another experiment."""
    for name, revenue in (("spring", 1.5), ("autumn", 1000.5)):
        rows = [f"s{n},{'zeta' if n % 2 == 0 else 'alpha'},{revenue + n}" for n in range(6)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["customer,arm,revenue", *rows]) + "\n")
        said = imported(suite, tmp_path / f"{name}.csv", name)
        assert "control: zeta (the first in the file); --control names another" in said
    imported(suite, tmp_path / "spring.csv", "summer")
    for name, revenue in (("spring", 1.5), ("autumn", 1000.5), ("summer", 1.5)):
        results = shown_results(suite, name)
        (metric,) = results["metrics"]
        assert metric["metric"].endswith(f"/metrics/{name}-revenue")
        means = {arm["variant"]: arm["mean"]["value"] for arm in metric["arms"]}
        assert means["zeta"] == pytest.approx(revenue + 2)
        assert means["alpha"] == pytest.approx(revenue + 3)
        assert [arm["variant"] for arm in results["arms"] if arm["control"]] == ["zeta"]


def test_refused_import_makes_nothing(suite: Suite, tmp_path: Path) -> None:
    """A wrong date, a wrong metric, a wrong id: the experiment id is free afterwards."""
    path = tmp_path / "later.csv"
    path.write_text("customer,arm,revenue\nl1,a,2\nl2,b,3\nl3,a,2\n")
    said = imported(suite, path, "later", "--start", "2199-01-01", status=1)
    assert "--start is '2199-01-01" in said
    assert "lower-case letters" in imported(suite, path, "Later", status=1)
    suite.run("metric", "create", "later-revenue", "--kind", "mean", "--event-name", "other")
    assert "is there already" in imported(suite, path, "later", status=1)
    suite.run("experiment", "get", "later", status=1)
    money = ("--kind", "mean", "--event-name", "paid.revenue", "--currency", "EUR")
    suite.run("metric", "create", "paid-revenue", *money)
    assert "in EUR, and would count no value" in imported(suite, path, "paid", status=1)
    suite.run("experiment", "get", "paid", status=1)
    assert "made experiment" in imported(suite, path, "later-2", "--start", "2026-01-31")


def test_copy_of_a_file_is_refused_and_the_end_is_kept(suite: Suite, tmp_path: Path) -> None:
    """Under another name the same rows would count twice."""
    text = "customer,arm,revenue,at\nk1,a,2,2026-01-01\nk2,b,3,2026-02-03T04:05:06Z\n"
    for name in ("first", "copy"):
        (tmp_path / f"{name}.csv").write_text(text)
    imported(suite, tmp_path / "first.csv", "copied", "--time", "at")
    stored = json.loads(suite.run("experiment", "get", "copied", "-o", "json").stdout)
    assert stored["experiment"]["stop_time"] == "2026-02-03T04:05:06Z"
    said = imported(suite, tmp_path / "copy.csv", "copied", "--time", "at", status=1)
    assert "imported as dataset first" in said
    assert "--again" in said
    imported(suite, tmp_path / "first.csv", "copied", "--time", "at")
    imported(suite, tmp_path / "copy.csv", "copied", "--time", "at", "--again")


def test_second_row_of_a_unit_goes_to_the_rejects(suite: Suite, tmp_path: Path) -> None:
    """A row a unit; and semicolons between the cells."""
    path = tmp_path / "doubles.csv"
    path.write_text("customer;arm;revenue\nd1;a;2\nd2;b;3\nd1;b;9\n")
    said = imported(suite, path, "doubles", status=3)
    assert "semicolon" in said
    rejects = pd.read_csv(suite.data.parent / "doubles.rejected.csv")
    assert list(rejects["line"]) == [4]
    assert "stands in row 1 already" in rejects["reason"][0]
