"""A replica that stops following a silent primary goes on serving for a while, and only then.

The members of the kind are the ways in which a replica leaves its primary in a failover, from the verdicts of
`nodes.fitness`: it stops receiving and applying, it follows nobody, it takes writes, it follows the next
primary. Against it speak an answer of the primary, too old rows, a copy from a backup, offline mode, and a
group or cluster that the node has left.
"""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.nodes.fitness import RESPITE_SECONDS, Fitness
from peewee_replicas.nodes.interview import Channel, Facts, Source
from peewee_replicas.nodes.lag import Samples
from peewee_replicas.nodes.probe_history import ProbeHistory, Surroundings
from peewee_replicas.nodes.upstream import Peer
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.servers import mariadb
from peewee_replicas.servers.identity import ServerIdentity

A = ServerIdentity("", "1", "a", "3306")
B = ServerIdentity("", "2", "b", "3306")
C = ServerIdentity("", "3", "c", "3306")


def following(server: ServerIdentity, **changed: Any) -> Channel:
    source = Source(server.hostname, server.port, server.server_id)
    return Channel(True, True, 0.0, "", source)._replace(**changed)


def at(sequence: int) -> MariaDBPosition:
    return MariaDBPosition.parse(f"0-1-{sequence}")


def told(server: ServerIdentity, **changed: Any) -> Facts:
    found = Facts(
        server=server, read_only=True, offline=False, member=False, position=at(5), sample=at(5),
        channels=(following(A),), beats=None, variables={}, dialect=mariadb,
    )  # fmt: skip
    return found._replace(**changed)


class Cluster:
    """A primary A and its replicas B, which is judged, and C, at a time that a test sets."""

    def __init__(self) -> None:
        self.samples = Samples()
        self.history = ProbeHistory()
        self.leader: Facts | None = None
        self.now = 100.0

    def primary_answers(self) -> None:
        self.samples.ask()
        self.samples.add(self.now, self.now + 0.01, told(A, channels=(), read_only=False))

    def judged(self, after: float = 1.0, *, max_lag: float | None = 10.0, **changed: Any) -> Fitness:
        self.now += after
        around = Surroundings(
            "the primary (a:3306)", "a:3306", self.samples, later=[Peer("c (c:3306)", "c:3306", self.leader)]
        )
        facts = told(B, **changed)
        return self.history.assess(facts, self.now, around, serves=True, listed=False, max_lag=max_lag)


@pytest.fixture
def cluster() -> Cluster:
    """The replica has followed the primary until now."""
    found = Cluster()
    found.primary_answers()
    assert found.judged().state == "up"
    found.now += 1.0
    found.primary_answers()
    assert found.judged(0.1).state == "up"
    return found


LEAVING: dict[str, dict[str, Any]] = {
    "stopped": {"channels": (following(A, receives=False, applies=False),)},
    "follows nobody": {"channels": ()},
    "takes writes": {"channels": (), "read_only": False},
}


@pytest.mark.parametrize("way", LEAVING)
def test_reads_go_on_while_the_primary_is_silent_until_they_may_be_too_old(
    cluster: Cluster, way: str
) -> None:
    cluster.samples.miss()
    first = cluster.judged(3.0, **LEAVING[way])
    assert (first.state, first.cause) == ("up", "")
    assert first.lag == pytest.approx(3.0, abs=0.2)
    assert "the primary does not answer" in first.remark
    assert cluster.judged(6.0, **LEAVING[way]).state == "up"
    late = cluster.judged(2.0, **LEAVING[way])
    assert late.state == "unfit"
    assert late.cause


def test_reads_go_on_without_a_bound_for_a_fixed_time(cluster: Cluster) -> None:
    cluster.samples.miss()
    assert cluster.judged(RESPITE_SECONDS - 1.0, max_lag=None, channels=()).state == "up"
    assert cluster.judged(2.0, max_lag=None, channels=()).state == "unfit"


@pytest.mark.parametrize("way", LEAVING)
def test_a_replica_that_leaves_a_primary_that_answers_is_unfit_at_once(cluster: Cluster, way: str) -> None:
    cluster.primary_answers()
    assert cluster.judged(**LEAVING[way]).state == "unfit"
    cluster.now += 1.0
    cluster.primary_answers()  # so it has left a primary that was alive
    assert cluster.judged(**LEAVING[way]).state == "unfit"
    cluster.samples.miss()
    assert cluster.judged(**LEAVING[way]).state == "unfit"


def test_the_first_answer_of_the_primary_ends_it(cluster: Cluster) -> None:
    cluster.samples.miss()
    assert cluster.judged(channels=()).state == "up"
    cluster.primary_answers()
    assert cluster.judged(channels=()).state == "unfit"
    cluster.samples.miss()
    assert cluster.judged(channels=()).state == "unfit"


def test_a_primary_that_is_still_being_asked_counts_as_silent_only_until_it_answers(cluster: Cluster) -> None:
    cluster.samples.ask()
    assert cluster.judged(channels=()).state == "up"
    cluster.now += 0.1
    cluster.samples.add(cluster.now - 1.0, cluster.now, told(A, channels=(), read_only=False))  # it is slow
    cluster.samples.ask()
    assert cluster.judged(channels=()).state == "unfit"


def test_a_primary_that_fell_silent_just_before_the_replica_left_counts_as_silent(cluster: Cluster) -> None:
    cluster.primary_answers()
    assert cluster.judged(0.1, channels=()).state == "unfit"  # it answered a moment ago
    cluster.samples.ask()
    assert cluster.judged(channels=()).state == "up"


@pytest.mark.parametrize(
    "changed",
    [{"offline": True, "channels": ()}, {"member": True, "group_state": "ERROR", "channels": ()}],
    ids=["offline", "left its group"],
)
def test_a_node_that_refuses_users_or_has_left_its_group_is_unfit(
    cluster: Cluster, changed: dict[str, Any]
) -> None:
    cluster.samples.miss()
    assert cluster.judged(**changed).state == "unfit"


def test_a_node_that_was_restored_from_a_backup_meanwhile_is_unfit(cluster: Cluster) -> None:
    cluster.samples.miss()
    assert cluster.judged(channels=(), position=at(3)).state == "unfit"


def test_a_node_that_was_never_fit_is_unfit() -> None:
    assert Cluster().judged(channels=()).state == "unfit"


def test_one_that_follows_the_next_primary_serves_without_an_end(cluster: Cluster) -> None:
    cluster.samples.miss()
    assert cluster.judged(channels=()).state == "up"
    cluster.leader = told(C, channels=(), read_only=False)
    for _ in range(5):
        assert cluster.judged(60.0, channels=(following(C),)).state == "up"
    cluster.primary_answers()
    assert cluster.judged(channels=(following(C),)).state == "unfit"
    cluster.primary_answers()
    cluster.samples.miss()
    assert cluster.judged(channels=(following(C),)).state == "unfit"
