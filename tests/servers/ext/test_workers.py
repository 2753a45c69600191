"""A visitor of an application with two worker processes, while its replica is a second late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.clusters import one_for_each, own_cluster
from support.peewees import needs_asyncio
from support.webapps.pairs import count_pairs, webapp_table

from peewee_replicas.testing import LocalCluster

WEBS = ["flask", "fastapi", pytest.param("fastapi-asyncio", marks=needs_asyncio)]


@contextmanager
def a_second_late(server: str) -> Iterator[LocalCluster]:
    with own_cluster(server, 1) as cluster:
        webapp_table(cluster)
        cluster.replicas[0].delay(1)
        yield cluster


@pytest.fixture(scope="module")
def clusters() -> Iterator[Any]:
    """A cluster of this module's own per server, whose replica is a second late."""
    with one_for_each(a_second_late) as cluster:
        yield cluster


@pytest.mark.parametrize("web", WEBS)
def test_with_the_middleware_a_get_after_a_post_never_shows_the_old_state(
    clusters: Any, server: str, web: str
) -> None:
    readonly = (server == "mysql") == (web == "fastapi")
    found = count_pairs(clusters(server), web, 20, carried=True, readonly=readonly, catch_up_timeout=0.1)
    assert (found.stale, found.pairs, found.workers) == (0, 20, 2)


@pytest.mark.parametrize(
    ("server", "web"),
    [
        ("mariadb", "flask"),
        ("mysql", "fastapi"),
        pytest.param("mariadb", "fastapi-asyncio", marks=needs_asyncio),
    ],
)
def test_without_the_middleware_a_get_after_a_post_shows_the_old_state(
    clusters: Any, server: str, web: str
) -> None:
    # The prober would look for how late the replica is, and may keep it out of use meanwhile.
    found = count_pairs(clusters(server), web, 10, carried=False, probe_interval=None)
    assert found.stale >= 5


def test_coroutines_that_hand_their_reads_to_threads(clusters: Any) -> None:
    found = count_pairs(clusters("mysql"), "fastapi", 10, carried=True, prefix="/async", catch_up_timeout=0.1)
    assert (found.stale, found.pairs) == (0, 10)


def test_a_get_that_may_wait_is_served_by_the_replica(clusters: Any) -> None:
    options = {"catch_up_timeout": 20, "probe_interval": None}
    found = count_pairs(clusters("mariadb"), "flask", 3, carried=True, readonly=True, **options)
    assert (found.stale, found.from_replica) == (0, 3)
