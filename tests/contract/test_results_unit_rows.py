"""Numbers of single units: those that the sums are of, and no sample but one that comes again."""

from pathlib import Path

import numpy as np
import pytest
from touchstone_statistics.moments import Moments

from services.results.domain.observation import Question
from tests.contract.results_log import PLAN, Log
from tests.contract.test_results_kinds import MEASURES, random_world


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    made = Log(tmp_path_factory.mktemp("rows") / "lake")
    exposures, conversions = random_world(4)
    made.add("exposures", exposures)
    made.add("conversions", conversions)
    return made


@pytest.mark.parametrize("name", MEASURES)
def test_rows_have_the_moments_of_the_control(log: Log, name: str) -> None:
    measure = MEASURES[name]
    found = log.source.unit_rows(Question("demo", PLAN, (measure,)), 1000)
    expected = log.ask(measure).moments(0)[0, PLAN.control_index]
    ours = Moments.from_rows(found.rows)
    assert found.history_units == len(found.rows) == expected.units > 5
    assert ours.mean == pytest.approx(expected.mean, rel=1e-9, abs=1e-9)
    assert ours.co_moment == pytest.approx(expected.co_moment, rel=1e-9, abs=1e-6)


def test_a_sample_is_a_part_of_all_and_the_same_again(log: Log) -> None:
    question = Question("demo", PLAN, (MEASURES["sum"],))
    everybody = log.source.unit_rows(question, 1000)
    first, again = (log.source.unit_rows(question, 7) for _ in range(2))
    assert first.history_units == everybody.history_units
    assert np.array_equal(first.rows, everybody.rows[:7])
    assert np.array_equal(first.rows, again.rows)


def test_no_units_have_no_rows(tmp_path: Path) -> None:
    for measure in MEASURES.values():
        found = Log(tmp_path / "lake").source.unit_rows(Question("demo", PLAN, (measure,)), 10)
        assert (found.rows.shape, found.history_units) == ((0, len(measure.columns)), 0)
