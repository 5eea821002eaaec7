"""Reports of past cuts, and dimensions with very many values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from services.results.domain.measure import Measure, MetricKind
from services.results.domain.observation import MOST_VALUES, Observation
from shared.errors import DomainError
from shared.lake.watermark import ConsistencyToken
from tests.contract.results_log import START, Log, conversion, exposure
from tests.contract.test_results_kinds import MEASURES, data_time, random_world

VISIT = Measure(MetricKind.PROPORTION, "buy")


def timeless(seen: Observation) -> Observation:
    """Without the time at which the tables were written, which upkeep changes."""
    return replace(seen, cut=replace(seen.cut, commit_time=None))


def test_a_past_cut_gives_the_same_to_the_last_bit_whatever_came_later(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    exposures, conversions = random_world(7)
    asked = {"dimensions": ("source", "properties.platform")}
    earlier = []
    for n in range(4):
        log.add("exposures", exposures[n::4])
        log.add("conversions", conversions[n::4])
        device = {"unit_type": "device", "unit_id": f"d{n}", "event_time": START}
        log.add("identifies", [device | {"other_unit_type": "user", "other_unit_id": f"u{n}"}])
        log.add("conversions", [conversion(f"d{n}", "buy", 900, 7.0) | {"unit_type": "device"}])
        earlier.append(log.ask(*MEASURES.values(), **asked))
    log.writer.tidy(1.0)
    assert len({seen.links.version for seen in earlier}) == 4
    for before in earlier:
        again = log.ask(*MEASURES.values(), **asked, as_of=before.cut.token)
        assert timeless(again) == timeless(before)
    assert earlier[0].cut.data_time != earlier[3].cut.data_time
    assert earlier[3].cut.data_time == data_time(
        exposures, [*conversions, conversion("d0", "buy", 900)]
    )


def test_a_cut_that_is_not_there_is_refused(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    log.add("exposures", [exposure("u1", "a")])
    with pytest.raises(DomainError) as above:
        log.ask(VISIT, as_of=ConsistencyToken("journal", 2).encode())
    assert above.value.reason == "NOT_YET_FRESH"
    for token in (ConsistencyToken("another", 1).encode(), "nonsense"):
        with pytest.raises(DomainError) as other:
            log.ask(VISIT, as_of=token)
        assert other.value.reason == "INVALID_CONSISTENCY_TOKEN"


def test_no_value_of_a_dimension_is_cut_off_unsaid(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    values = 100_000
    # The first ones are of three units, the rest of one each.
    units = [n % values for n in range(values + 2 * 60)]
    exposures = [
        exposure(f"u{n}", "ab"[n % 2], source=f"s{value:06}") for n, value in enumerate(units)
    ]
    log.add("exposures", exposures)
    log.add("conversions", [conversion(f"u{n}", "buy", 1) for n in range(0, values, 10)])
    seen = log.ask(VISIT, dimensions=("source",))
    assert len(seen.slices) == 1 + MOST_VALUES + 1
    alone, others = seen.slices[1:-1], seen.slices[-1]
    assert [part.value for part in alone] == [f"s{n:06}" for n in range(MOST_VALUES)]
    assert (others.value, others.others) == (None, values - MOST_VALUES)
    by_arm = np.array([part.units for part in seen.slices])
    assert by_arm[1:].sum(axis=0).tolist() == list(seen.units) == by_arm[0].tolist()
    found = seen.sums[0].totals[:, :, 0]
    assert found[0].sum() == values / 10
    assert found[1:].sum(axis=0) == pytest.approx(found[0])


def test_skewness_is_that_of_the_units(tmp_path: Path) -> None:
    log = Log(tmp_path / "lake")
    values = np.random.default_rng(8).lognormal(3, 1, 200)
    log.add("exposures", [exposure(f"u{n}", "ab"[n % 2]) for n in range(300)])
    log.add("conversions", [conversion(f"u{n}", "buy", 1, x) for n, x in enumerate(values)])
    spend = Measure(MetricKind.MEAN, "buy")
    seen = log.ask(spend, VISIT)
    every = np.concatenate([values, np.zeros(100)])
    expected = [stats.skew(every[arm::2]) for arm in (0, 1)]
    assert seen.sums[0].skewness[0] == pytest.approx(expected, rel=1e-4)
    assert seen.sums[1].skewness[0] == pytest.approx(
        [stats.skew((every > 0)[arm::2].astype(float)) for arm in (0, 1)], rel=1e-12
    )
