"""A busy node is left alone for a moment."""

from __future__ import annotations

import pytest

from peewee_replicas.nodes.breaker import LONGEST_BACKOFF, SHORTEST_BACKOFF, Backoff


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_a_rest_lasts_between_its_bounds(jitter: float) -> None:
    rest = Backoff(lambda: jitter)
    assert not rest.holds(0.0)
    rest.begin(100.0, "too many connections")
    assert rest.holds(100.0 + SHORTEST_BACKOFF * 0.99)
    assert not rest.holds(100.0 + LONGEST_BACKOFF)


def test_a_busy_node_is_reported_once_until_a_connection_was_opened() -> None:
    rest = Backoff(lambda: 0.5)
    assert rest.begin(0.0, "one")
    assert not rest.begin(5.0, "two")
    assert rest.cause == "two"
    rest.end()
    assert not rest.holds(5.0)
    assert rest.begin(6.0, "three")
