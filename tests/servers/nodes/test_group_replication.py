"""MySQL's group replication in single-primary mode: secondaries serve reads, and their states are told apart.

The members of the kind are the states in which a member that answers may be: ONLINE as primary or secondary,
OFFLINE after it has left; and RECOVERING, ERROR, UNREACHABLE, decided in `tests/unit/nodes/test_interview`.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from peewee import OperationalError
from support.clusters.group import grouped, join
from support.clusters.lagging import watched
from support.waiting import until

from peewee_replicas.discover import group_replication

pytestmark = pytest.mark.once

PAIRS = 50


def ports(found: list[dict[str, Any]]) -> list[int]:
    return sorted(each["port"] for each in found)


def test_secondaries_serve_reads_until_they_leave_the_group(caplog: pytest.LogCaptureFixture) -> None:
    with grouped() as cluster:
        schema = cluster.database_name
        cluster.primary.execute(f"CREATE TABLE {schema}.t (id INT PRIMARY KEY, n INT)")
        cluster.primary.execute(f"INSERT INTO {schema}.t VALUES (1, 0)")
        cluster.sync()
        join(cluster)
        db = cluster.database(user=cluster.admin_user, probe_interval=0.1)

        def n_of() -> Any:
            return db.execute_sql("SELECT n FROM t").fetchone()[0]

        with watched(db) as events:
            until(lambda: n_of() == 0 and all(each.role == "member" for each in db.replicas))
            del events[:]
            for n in range(1, PAIRS + 1):
                db.execute_sql("UPDATE t SET n = %s", (n,))
                assert n_of() == n
            reads = [event for event in events if event.kind == "read"]
            assert sum(event.role == "replica" for event in reads) > PAIRS // 2
            assert [(each.state, each.lag is not None) for each in db.replicas] == [("up", True)] * 2
            leaving = cluster.replicas[0]
            members = group_replication(seconds=60)
            assert ports(members(db)) == sorted(node.port for node in cluster.replicas)
            leaving.execute("STOP GROUP_REPLICATION")
            until(lambda: n_of() == PAIRS and db.replicas[0].state == "unfit")
            assert ports(members(db)) == [cluster.replicas[1].port]
            outside = cluster.database(user=cluster.admin_user, port=leaving.port, replicas=())
            with pytest.raises(LookupError, match="no ONLINE member"):
                members(outside)
            assert "OFFLINE" in str(db.replicas[0].cause)
            assert db.replicas[1].state == "up"
            db.execute_sql("UPDATE t SET n = 0")
            assert n_of() == 0
            leaving.execute("START GROUP_REPLICATION")
            until(lambda: n_of() == 0 and db.replicas[0].state == "up", 60.0)
        wrong = cluster.database(
            user=cluster.admin_user, port=cluster.replicas[1].port, replicas=[
                {"name": "other", "port": cluster.replicas[0].port}
            ], probe_interval=0.1,
        )  # fmt: skip
        until(lambda: wrong.execute_sql("SELECT 1") and "is a secondary" in caplog.text)
        wrong.dispose()


def test_writes_follow_the_primary_that_the_group_elects() -> None:
    """It is killed; the two that are left elect another, without anybody's help."""
    with grouped() as cluster:
        cluster.primary.execute(f"CREATE TABLE {cluster.database_name}.t (id INT PRIMARY KEY)")
        cluster.sync()
        join(cluster)
        db = cluster.database(
            user=cluster.admin_user, probe_interval=0.2, connect_timeout=5, follow_primary=True
        )
        numbers = count(1)
        acknowledged = []

        def written() -> bool:
            number = next(numbers)  # another for each try: one whose outcome is unknown is not sent again
            try:
                db.execute_sql("INSERT INTO t VALUES (%s)", (number,))
            except OperationalError:
                return False
            acknowledged.append(number)
            return True

        assert written()
        until(lambda: db.execute_sql("SELECT 1") and {each.role for each in db.replicas} == {"member"}, 60.0)
        cluster.primary.kill()
        until(written, 120.0)
        assert [written() for _ in range(3)] == [True] * 3
        assert db.stats()["primary_changes"] == 1
        kept = {row[0] for row in db.execute_sql("SELECT id FROM t").fetchall()}
        assert kept >= set(acknowledged)
        elected = [node for node in cluster.replicas if node.execute("SELECT @@read_only") == [(0,)]]
        assert len(elected) == 1
        assert {row[0] for row in elected[0].execute(f"SELECT id FROM {cluster.database_name}.t")} == kept
        db.close()
        db.dispose()
