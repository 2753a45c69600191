"""`follow_primary=True`: writes go to the node that has become the primary, and never on a guess.

How a primary goes: it is demoted and follows the new one; it dies; it hangs while a statement runs there; and
it stays, so that two take writes. `tests/unit/nodes/test_failover.py` has every picture that nodes can give.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import peewee
import pytest
from support.clusters import one_for_each
from support.clusters.promoting import Topology, caught_up, detach, promotable, set_read_only
from support.databases.models import Item
from support.forms.threads import in_thread
from support.proxies.moved_address import KINDS, MovedAddress, moved_address
from support.waiting import until

from peewee_replicas import OutcomeUnknown, PrimaryReadOnly
from peewee_replicas.discover import replicas_of_primary
from peewee_replicas.nodes import prober

SECONDS = 90.0


@pytest.fixture(scope="module")
def topologies() -> Iterator[Callable[[str], Topology]]:
    with one_for_each(promotable) as found:
        yield found


@pytest.fixture
def nodes(topologies: Any, server: str) -> Topology:
    """A healthy cluster with an empty `item`, which a test may leave as it likes."""
    found: Topology = topologies(server)
    found.begin_anew(Item)
    return found


@pytest.fixture
def db(nodes: Topology) -> Iterator[Any]:
    database = nodes.database(probe_interval=0.1, follow_primary=True, connect_timeout=5)
    with database.bind_ctx([Item]):
        yield database
    database.close()
    database.dispose()


def names(node: Any) -> list[str]:
    return [name for (name,) in node.execute("SELECT name FROM app.item ORDER BY id")]


def written(name: str) -> Callable[[], bool]:
    """Try to write until it is acknowledged; a write of unknown outcome is not tried again."""

    def write() -> bool:
        try:
            Item.create(name=name)
        except OutcomeUnknown:
            raise
        except peewee.OperationalError:
            return False
        return True

    return write


def test_writes_follow_a_promotion_and_a_death(
    nodes: Topology, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert written("before")()
    new = nodes.promote()
    with caplog.at_level(logging.WARNING, "peewee.replicas"):
        until(written("promoted"), SECONDS)
        assert [item.name for item in Item.select().order_by(Item.id)] == ["before", "promoted"]
        roles = lambda: {one.role for one in db.replicas}  # noqa: E731
        until(lambda: Item.select().count() == 2 and roles() == {"replica"}, SECONDS)
    assert names(new) == ["before", "promoted"]
    said = [record.message for record in caplog.records if "is the primary now" in record.message]
    assert len(said) == db.stats()["primary_changes"] == 1
    assert "it takes writes, and" in said[0]

    new.kill()
    last = nodes.promote_alone()
    until(written("survived"), SECONDS)
    assert names(last) == ["before", "promoted", "survived"]
    assert [item.name for item in Item.select().order_by(Item.id)] == names(last)


def test_databases_that_share_a_prober_all_follow_and_share_one_again(nodes: Topology) -> None:
    given: dict[str, Any] = {"probe_interval": 0.1, "follow_primary": True, "connect_timeout": 5}
    databases = [nodes.database(**given) for _ in range(5)]

    def probers() -> int:
        for database in databases:
            database.execute_sql("SELECT 1")
        return len({database._parts.cluster.prober.seat.sharers for database in databases})

    assert probers() == 1
    new = nodes.promote()
    changes = lambda: [database.stats()["primary_changes"] for database in databases]  # noqa: E731
    until(lambda: probers() and changes() == [1] * 5, SECONDS)
    until(lambda: probers() == 1, SECONDS)
    for database in databases:
        assert database._parts.cluster.reader.address == f"{new.host}:{new.port}"
        until(lambda: probers() and {one.state for one in database.replicas} == {"up"}, SECONDS)  # noqa: B023
    assert changes() == [1] * 5
    for database in databases:
        database.close()
        database.dispose()


def test_a_split_brain_is_not_followed_and_the_error_says_who_takes_writes(nodes: Topology, db: Any) -> None:
    old = nodes.primary
    assert written("before")()
    nodes.sync()
    new = nodes.promote_alone()
    cluster = db._parts.cluster
    until(lambda: Item.select().count() and "all take writes" in cluster.finding.words, SECONDS)
    assert written("old")()
    assert names(old) == ["before", "old"]
    assert names(new) == ["before"]
    assert db.stats()["primary_changes"] == 0

    set_read_only(nodes.cluster, old, True)  # now it only stands apart
    until(lambda: Item.select().count() and "replicates from nobody" in cluster.finding.words, SECONDS)
    label = f"{nodes.name(new)} \\({new.host}:{new.port}\\)"
    with pytest.raises(PrimaryReadOnly, match=f"{label} takes writes now.*not followed yet.*from nobody"):
        Item.create(name="refused")

    old.kill()  # it speaks against it no longer, and the others are more than half of all
    until(written("new"), SECONDS)
    assert names(new) == ["before", "new"]


def test_without_it_a_demoted_primary_says_who_takes_writes(nodes: Topology) -> None:
    database = nodes.database(probe_interval=0.1)
    with database.bind_ctx([Item]):
        Item.create(name="before")
        new = nodes.promote()
        cluster = database._parts.cluster
        until(lambda: Item.select().count() and cluster.finding.primary == nodes.name(new), SECONDS)
        with pytest.raises(
            PrimaryReadOnly, match=f"{new.host}:{new.port}\\) takes writes now, as the prober"
        ):
            Item.create(name="refused")
        assert database.stats()["primary_changes"] == 0
    database.close()
    database.dispose()


def test_reads_go_on_after_an_unplanned_promotion_before_it_is_followed(nodes: Topology) -> None:
    database = nodes.database(probe_interval=0.1, connect_timeout=5, max_lag=SECONDS)
    leader, follower = (nodes.name(node) for node in nodes.others)
    with database.bind_ctx([Item]), database.causal_session():
        assert written("before")()
        nodes.sync()
        until(lambda: Item.select().count() and {one.role for one in database.replicas} == {"replica"}, 60.0)
        nodes.primary.kill()
        new = nodes.promote_alone()
        roles = lambda: {one.name: one.role for one in database.replicas}  # noqa: E731
        # Each of these reads would raise if it found no node.
        until(lambda: Item.select().count() == 1 and roles()[leader] == "detached", SECONDS)
        new.execute("INSERT INTO app.item (name, n) VALUES ('after', 0)")
        caught_up(nodes.cluster, nodes.others[0], new)
        until(lambda: Item.select().count() and roles() == {leader: "detached", follower: "replica"}, SECONDS)
        with database.readonly(node=leader):
            assert Item.select().count() == 2
        assert {one.state for one in database.replicas} == {"up"}
    database.close()
    database.dispose()


def test_a_promoted_one_leaves_the_rotation_when_the_primary_is_back(nodes: Topology) -> None:
    database = nodes.database(probe_interval=0.1, connect_timeout=5, max_lag=SECONDS)
    with database.bind_ctx([Item]):
        assert written("before")()
        nodes.sync()
        until(lambda: Item.select().count() and {one.role for one in database.replicas} == {"replica"}, 60.0)
        old = nodes.primary
        old.kill()
        leader = nodes.name(nodes.promote_alone())
        replica = next(one for one in database.replicas if one.name == leader)
        until(lambda: Item.select().count() == 1 and replica.role == "detached", SECONDS)
        assert replica.state == "up"
        old.start()
        until(lambda: Item.select().count() == 1 and replica.state == "unfit", SECONDS)
    database.close()
    database.dispose()


@pytest.fixture(params=KINDS)
def address(nodes: Topology, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MovedAddress]:
    with moved_address(request.param, nodes, tmp_path) as found:
        yield found


@pytest.fixture
def behind(nodes: Topology, address: MovedAddress) -> Iterator[Any]:
    """A database that knows its primary by an address that is moved."""
    database = nodes.database(**address.arguments, probe_interval=0.1, connect_timeout=5)
    with database.bind_ctx([Item]):
        yield database
    database.close()
    database.dispose()


def all_serve(database: Any) -> Callable[[], bool]:
    """Whether the prober has found all nodes fit, one of them being the primary itself."""

    def look() -> bool:
        Item.select().count()
        roles = sorted(str(one.role) for one in database.replicas if one.state == "up")
        return roles == ["primary", "replica", "replica"]

    return look


def test_without_it_writes_follow_an_address_that_is_moved(
    nodes: Topology, address: MovedAddress, behind: Any
) -> None:
    assert written("before")()
    until(all_serve(behind), SECONDS)
    new = nodes.promote()
    address.lead_to(new)
    # The open connection stays with the old primary, which refuses the write unless the prober has noticed
    # the change before.
    until(written("moved"), SECONDS)
    assert names(new) == ["before", "moved"]
    until(all_serve(behind), SECONDS)
    nodes.sync()
    new.kill()
    last = nodes.promote_alone()
    assert Item.select().count() == 2
    assert not written("too early")()
    address.lead_to(last)
    until(written("survived"), SECONDS)
    assert names(last) == ["before", "moved", "survived"]
    assert [item.name for item in Item.select().order_by(Item.id)] == names(last)
    assert behind.stats()["primary_changes"] == 0


@pytest.mark.parametrize("server", ["mariadb"])
@pytest.mark.parametrize("address", ["dns"], indirect=True)
def test_a_connection_opened_before_the_address_was_moved_serves_nothing_old(
    nodes: Topology, address: MovedAddress
) -> None:
    """Once a write has shown that the address leads to a primary again, even without a prober."""
    old = nodes.primary
    db = nodes.database(**address.arguments, probe_interval=None)
    with db.bind_ctx([Item]):
        assert in_thread(written("before"))
        new = nodes.promote()
        detach(nodes.cluster, old)
        assert not written("refused")()
        with db.primary():
            assert Item.select().count() == 1  # at the old primary, whose address it still is
        address.lead_to(new)
        assert in_thread(written("after"))
        with db.primary():
            assert Item.select().count() == 2
    db.close()
    db.dispose()


@pytest.mark.parametrize("server", ["mariadb"])
@pytest.mark.parametrize("address", ["dns"], indirect=True)
def test_what_the_moved_primary_has_shown_is_seen_by_later_reads(
    nodes: Topology, address: MovedAddress
) -> None:
    """Although it was known to be away, so that only one at a time would ask it for its position."""
    follower = nodes.others[1]
    arguments = {**address.arguments, "replicas": nodes.listed(follower)}
    db = nodes.database(**arguments, probe_interval=None, connect_timeout=5)
    with db.bind_ctx([Item]):
        assert written("before")()
        nodes.sync()
        with db.primary():
            assert Item.select().count() == 1  # which later reads must see
        nodes.primary.kill()
        new = nodes.promote_alone()
        assert Item.select().count() == 1  # asks the primary in vain what that was
        assert db._parts.cluster.reader.breaker.open
        detach(nodes.cluster, follower)
        new.execute("INSERT INTO app.item (name, n) VALUES ('after', 0)")
        address.lead_to(new)
        with db.causal_session():
            with db.primary():
                assert Item.select().count() == 2
            assert Item.select().count() == 2
    db.close()
    db.dispose()


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("server", ["mariadb"])
@pytest.mark.parametrize("transaction", [False, True])
def test_what_waits_at_a_hung_primary_ends_when_its_address_leads_elsewhere(
    nodes: Topology, address: MovedAddress, transaction: bool
) -> None:
    """A statement that is running there, and one that an open transaction sends there.

    The connection was opened after the prober's, which has not asked a second time when the primary hangs.
    """
    db = nodes.database(**address.arguments, probe_interval=1, connect_timeout=5)
    with db.bind_ctx([Item]):
        assert Item.select().count() == 0
        assert db._parts.cluster.prober.wait_for_first_look(SECONDS)
        _let_it_hang_and_be_moved(nodes, address, db, transaction)
    db.close()
    db.dispose()


@pytest.mark.usefixtures("form")
def test_what_waits_at_a_hung_primary_keeps_the_prober_at_work(
    nodes: Topology, address: MovedAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its address leads elsewhere, however late that is, and although nobody uses the database."""
    monkeypatch.setattr(prober, "IDLE_SECONDS", 1.0)
    db = nodes.database(**address.arguments, probe_interval=0.3, connect_timeout=5)
    with db.bind_ctx([Item]):
        assert Item.select().count() == 0
        assert db._parts.cluster.prober.wait_for_first_look(SECONDS)
        _let_it_hang_and_be_moved(nodes, address, db, transaction=False, seconds=4)
    db.close()
    db.dispose()


def _let_it_hang_and_be_moved(
    nodes: Topology, address: MovedAddress, db: Any, transaction: bool, seconds: float = 0.0
) -> None:
    assert written("before")()
    nodes.sync()
    hung = nodes.primary
    waking = threading.Timer(SECONDS, hung.resume)  # or a statement that is not ended would wait for ever
    with pytest.raises(peewee.OperationalError) as caught, db.atomic() if transaction else nullcontext():
        if transaction:
            Item.create(name="lost")
        hung.pause()
        waking.start()
        moving = threading.Timer(seconds, address.lead_to, [nodes.promote_alone()])
        moving.start()
        Item.create(name="lost")
    waking.cancel()
    moving.join()
    assert isinstance(caught.value, OutcomeUnknown) is not transaction
    until(written("after"), SECONDS)
    assert names(nodes.primary) == ["before", "after"]
    assert db.stats()["hung_up"]


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("server", ["mariadb"])
def test_writes_leave_a_primary_that_hangs(nodes: Topology, db: Any) -> None:
    assert written("before")()
    nodes.sync()
    until(lambda: Item.select().count() and db._parts.cluster.finding.primary == "primary", SECONDS)
    nodes.primary.pause()
    new = nodes.promote_alone()
    with pytest.raises(OutcomeUnknown):
        Item.create(name="unknown")  # ends once the primary has moved
    until(written("new"), SECONDS)
    assert names(new) == ["before", "new"]


RIGHTS = {"mariadb": "REPLICATION MASTER ADMIN", "mysql": "REPLICATION SLAVE"}


def test_the_new_primary_is_asked_who_its_replicas_are(nodes: Topology) -> None:
    """So the old primary serves reads, and the list of nodes is right for the next promotion."""
    user = nodes.cluster.user
    nodes.primary.execute(f"GRANT {RIGHTS[nodes.cluster.server]} ON *.* TO {user}@'%'")
    nodes.sync()
    db = nodes.database(
        replicas=replicas_of_primary(seconds=60), refresh=0.1, probe_interval=0.1, follow_primary=True,
        connect_timeout=5,
    )  # fmt: skip

    def those_that_follow_serve() -> bool:
        Item.select().count()
        return {one.port for one in db.replicas} == {node.port for node in nodes.others}

    with db.bind_ctx([Item]):
        until(those_that_follow_serve, SECONDS)
        for promotion in range(2):
            nodes.promote()
            until(written(str(promotion)), SECONDS)
            until(those_that_follow_serve, SECONDS)
        dead = nodes.primary
        nodes.sync()
        dead.kill()
        nodes.promote_alone()
        until(written("2"), SECONDS)
        nodes.others.remove(dead)
        until(those_that_follow_serve, SECONDS)
        assert [item.name for item in Item.select().order_by(Item.id)] == ["0", "1", "2"]
    db.close()
    db.dispose()
