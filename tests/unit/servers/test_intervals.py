"""Sets of whole numbers as intervals in a row."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peewee_replicas.servers.intervals import contains, difference, join, union, without_gaps

pytestmark = pytest.mark.pure

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "beb0008b-e4ca-11f1-9f01-02fc00000001"


@given(st.integers(), st.integers(1, 400), st.integers(0, 60), st.integers(20, 1500))
def test_long_rows_of_intervals(seed: int, many: int, few: int, highest: int) -> None:
    chance = random.Random(seed)
    row = [chance.randrange(highest) for _ in range(many)]
    other = [chance.randrange(highest) for _ in range(few)] or [0]
    plain_row, plain_other = set(row), set(other)
    one, two = (join((n, n + 1) for n in found) for found in (row, other))
    for left, right in ((one, two), (two, one)):
        both = union(left, right)
        assert both == join((n, n + 1) for n in plain_row | plain_other)
        assert list(both) == sorted(set(both))
        assert contains(both, left)
        assert contains(both, right)
        numbers = (plain_row - plain_other) if left is one else (plain_other - plain_row)
        assert difference(left, right) == join((n, n + 1) for n in numbers)
    assert contains(one, two) == (plain_other <= plain_row)
    assert contains(two, one) == (plain_row <= plain_other)
    assert without_gaps(one, union(one, two)) == without_gaps(one, two)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ((1, 4), (4, 6), (1, 6)),  # touching
        ((4, 6), (1, 4), (1, 6)),
        ((1, 4), (5, 6), (1, 4, 5, 6)),
        ((5, 6), (1, 4), (1, 4, 5, 6)),
        ((1, 2, 5, 6), (2, 5), (1, 6)),  # filling a gap
        ((1, 2, 5, 6), (3, 4), (1, 2, 3, 4, 5, 6)),
        ((1, 2, 5, 6), (1, 9), (1, 9)),  # swallowing all
        ((1, 2, 5, 6, 9, 10), (5, 9), (1, 2, 5, 10)),
        ((1, 2, 5, 6), (6, 7), (1, 2, 5, 7)),  # the next write
        ((1, 2, 5, 6), (8, 9), (1, 2, 5, 6, 8, 9)),
    ],
)
def test_a_union_has_the_numbers_of_both(
    one: tuple[int, ...], other: tuple[int, ...], both: tuple[int, ...]
) -> None:
    assert union(one, other) == both == union(other, one)


def test_union_that_adds_nothing_is_the_same_object() -> None:
    assert union(row := (1, 4, 6, 9), (7, 8)) is row
