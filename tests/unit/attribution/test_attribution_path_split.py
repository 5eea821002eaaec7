"""Paths cut into touches by passes over bytes: the same touches as str.split finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.paths.split import PATHS_AT_ONCE, split_paths

NAMES = st.text("ab ->:\0é渠😀", max_size=20)


def touches_of(paths: list[str], separator: str) -> list[list[str]]:
    """The touches that we find, by path."""
    found = split_paths(paths, separator)
    names = [found.names[code] for code in found.codes.tolist()]
    ends = np.cumsum(found.lengths)
    starts = ends - found.lengths
    return [names[start:end] for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("separator", [">", "->", " > ", "::", "渠", "渠a"])
@given(paths=st.lists(NAMES, max_size=8))
def test_touches_are_those_of_str_split(paths: list[str], separator: str) -> None:
    assert touches_of(paths, separator) == [path.split(separator) for path in paths]


def test_every_touch_a_name_of_its_own_over_several_blocks() -> None:
    paths = [f"{number}>name {number % 7}" for number in range(2 * PATHS_AT_ONCE + 3)]

    found = split_paths(paths, ">")

    assert len(found.names) == len(set(found.names)) == len(paths) + 7
    assert touches_of(paths, ">") == [path.split(">") for path in paths]


def test_names_that_differ_late_or_by_length_alone_stay_apart() -> None:
    start = "channel of the same first forty characters "
    names = [start, start + "a", start + "b", "a" * 8, "a" * 9, "a" * 8 + "\0", "", "\0"]

    assert split_paths(["|".join(names)], "|").names == tuple(names)


def test_nothing_gives_nothing() -> None:
    found = split_paths([], ">")

    assert (found.names, len(found.codes), len(found.lengths)) == ((), 0, 0)
