"""Sets of integers, stored as sorted intervals. No I/O, no clock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Bounds = tuple[int, ...]
"""The start of each interval and the number after its end, strictly ascending; never empty."""

_FEW = 8  # up to this many intervals are inserted one by one, which is faster than sorting all


def join(intervals: Iterable[tuple[int, int]]) -> Bounds:
    """Return the bounds of intervals (start, number after the end) in any order, overlapping or not."""
    bounds: list[int] = []
    for start, stop in sorted(intervals):
        if bounds and start <= bounds[-1]:
            bounds[-1] = max(bounds[-1], stop)
        else:
            bounds += (start, stop)
    return tuple(bounds)


def pairs(bounds: Bounds) -> Iterator[tuple[int, int]]:
    """Return the intervals, in the form that `join` takes."""
    return zip(bounds[::2], bounds[1::2], strict=True)


def contains(have: Bounds, want: Bounds) -> bool:
    """Return whether every number of `want` is in `have`."""
    if len(have) == 2:
        return have[0] <= want[0] and want[-1] <= have[1]
    at = 0
    for start, stop in pairs(want):
        at = bisect_right(have, start, at)
        # An odd index is inside an interval, and `have[at]` is the end of that interval.
        if not at & 1 or have[at] < stop:
            return False
    return True


def union(one: Bounds, other: Bounds) -> Bounds:
    """Return the numbers of both; `one` itself if `other` adds nothing."""
    if len(other) == 2 and one[-2] <= other[0] and one[-1] < other[1]:
        # The usual case: the next writes of a source.
        return (*one[:-1], other[1]) if other[0] <= one[-1] else one + other
    if contains(one, other):
        return one
    few, many = (one, other) if len(one) < len(other) else (other, one)
    if len(few) > 2 * _FEW:
        return join([*pairs(one), *pairs(other)])
    for start, stop in pairs(few):
        low, high = bisect_left(many, start), bisect_right(many, stop)
        # An interval that overlaps or touches another one becomes part of it.
        head = many[:low] if low & 1 else (*many[:low], start)
        many = head + many[high:] if high & 1 else (*head, stop, *many[high:])
    return many


def difference(bounds: Bounds, known: Bounds) -> tuple[int, ...]:
    """Return the numbers of `bounds` that are not in `known`, as bounds; empty if there are none."""
    left: list[tuple[int, int]] = []
    for start, stop in pairs(bounds):
        for low, high in pairs(known):
            if high <= start:
                continue
            if low >= stop:
                break
            if start < low:
                left.append((start, low))
            start = high
        if start < stop:
            left.append((start, stop))
    return tuple(bound for interval in left for bound in interval)


def without_gaps(bounds: Bounds, known: Bounds) -> Bounds:
    """Return `bounds` with each gap closed that lies completely in `known`."""
    kept = [bounds[0]]
    for gap in pairs(bounds[1:-1]):
        if not contains(known, gap):
            kept += gap
    return (*kept, bounds[-1])
