"""Aggregated paths: what is read, what is refused, and that totals are those of the rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.application.evaluate_paths import EvaluatePaths, evaluate_paths
from services.attribution.domain.channel_sets import count_sets
from services.attribution.domain.paths.aggregated import PathColumns, read_paths
from services.attribution.domain.paths.table import tabulate_paths
from services.attribution.domain.shapley.additive import simplified
from services.attribution.limits import AttributionLimits
from shared.errors import DomainError


def test_rows_become_journeys() -> None:
    found = read_paths(PathColumns(["A > B", "B", "C"], ["2", 1, 0], [10.0, "3", ""], [1, 0, 0]))

    assert found.journeys.channels == ("A", "B", "C")
    assert found.journeys.codes.tolist() == [0, 1, 0, 1, 1, 0, 1]
    assert found.journeys.converting == 3
    assert found.journeys.values.tolist() == [5.0, 5.0, 3.0]
    assert found.journeys.times.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert found.empty_rows == 1
    assert len(found.touches) == 7
    assert simplified(count_sets(found.journeys)).values.tolist() == [5.0, 8.0, 0.0]


def test_value_and_nulls_may_be_missing() -> None:
    found = read_paths(PathColumns(["A", "B|A"], [1, 1]), separator="|")

    assert found.journeys.values.tolist() == [0.0, 0.0]
    assert len(found.journeys) == 2
    assert len(read_paths(PathColumns([], [])).journeys) == 0


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["ads", "mail", "shop"]), min_size=1, max_size=4),
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        max_size=12,
    )
)
def test_journeys_aggregate_back_to_the_rows(rows: list[tuple[list[str], int, int]]) -> None:
    paths = [">".join(row[0]) for row in rows]
    found = read_paths(PathColumns(paths, [r[1] for r in rows], None, [r[2] for r in rows]))
    table = tabulate_paths(found.journeys)

    for row in range(len(table)):
        path = list(table.names(row))
        assert table.conversions[row] == sum(r[1] for r in rows if r[0] == path)
        assert table.journeys[row] == sum(r[1] + r[2] for r in rows if r[0] == path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (PathColumns(["A", "A>>B"], [1, 1]), "row 2, column path"),
        (PathColumns([""], [1]), "row 1, column path"),
        (PathColumns(["A", "B"], [1, "x"]), "row 2, column conversions"),
        (PathColumns(["A"], [1.5]), "row 1, column conversions"),
        (PathColumns(["A"], [-1]), "row 1, column conversions"),
        (PathColumns(["A"], [1], ["nan"]), "row 1, column value"),
        (PathColumns(["A"], [0], [5]), "row 1, column value is '5'; allowed: 0 in a row"),
        (PathColumns(["A"], [1], None, [1e300]), "row 1, column nulls"),
        (PathColumns(["A"], [1, 2]), "column conversions"),
        (PathColumns([">".join("A" * 10_001)], [1]), "row 1, column path"),
        (PathColumns(["A"] * 3, [100_000_000] * 3), "300000000 touches"),
    ],
)
def test_what_cannot_be_read_is_named(columns: PathColumns, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        read_paths(columns)


def test_a_blank_separator_is_refused() -> None:
    with pytest.raises(DomainError, match="separator"):
        read_paths(PathColumns(["A B"], [1]), separator=" ")


def test_values_without_a_finite_sum_are_refused() -> None:
    columns = PathColumns(["A", "B"], [1, 1], [1e308, 1e308])
    with pytest.raises(DomainError, match=r"value is 'up to 1e\+308'; allowed: numbers whose sum"):
        evaluate_paths(EvaluatePaths(columns), AttributionLimits())
