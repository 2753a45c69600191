"""The clusters that tests share: what one test leaves, the next does not find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.clusters import shared
from support.clusters.lagging import MODELS, Slot
from support.clusters.repaired import repaired

Leave = Callable[[Any], object]

LEFT: dict[str, Leave] = {
    "nothing": lambda cluster: None,
    "rows": lambda cluster: cluster.primary.execute("INSERT INTO app.slot (name, n) VALUES ('left', 1)"),
    "a table": lambda cluster: cluster.primary.execute("CREATE TABLE app.left_over (n INT)"),
    "a column": lambda cluster: cluster.primary.execute("ALTER TABLE app.mark ADD COLUMN more INT"),
    "no table": lambda cluster: cluster.primary.execute("DROP TABLE app.mark"),
    "no database": lambda cluster: cluster.primary.execute("DROP DATABASE app"),
    "a function": lambda cluster: cluster.primary.execute(
        "CREATE FUNCTION app.left_over() RETURNS INT DETERMINISTIC RETURN 1"
    ),
    "another character set": lambda cluster: cluster.primary.execute(
        "ALTER DATABASE app CHARACTER SET ascii"
    ),
    "a frozen replica": lambda cluster: cluster.replicas[0].freeze(),
    "a replica that receives nothing": lambda cluster: cluster.replicas[0].execute(
        "STOP SLAVE IO_THREAD" if cluster.server == "mariadb" else "STOP REPLICA IO_THREAD"
    ),
    "a paused primary": lambda cluster: cluster.primary.pause(),
    "a killed replica": lambda cluster: cluster.replicas[0].kill(),
}


def state(cluster: Any) -> list[Any]:
    """What each node has in the database."""
    questions = (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'app' ORDER BY 1",
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'app' ORDER BY 1",
        "SELECT routine_name FROM information_schema.routines WHERE routine_schema = 'app'",
        "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'app'",
        "SELECT COUNT(*) FROM app.slot",
    )
    return [[node.execute(question) for question in questions] for node in cluster.nodes]


@pytest.mark.parametrize("left", LEFT)
def test_a_repaired_cluster_is_as_new(server: str, left: str) -> None:
    with repaired(server, 1, MODELS) as cluster:
        new = state(cluster)
        LEFT[left](cluster)
    with repaired(server, 1, MODELS) as cluster:
        assert state(cluster) == new
        with cluster.database(consistency="eventual").bind_ctx(MODELS):
            assert Slot.create(name="first", n=1).id == 1
        cluster.sync()
        assert cluster.replicas[0].execute("SELECT name FROM app.slot") == [("first",)]


def test_a_cluster_that_nobody_uses_is_paused_and_replicates_when_it_is_wanted(cluster: Any, db: Any) -> None:
    shared.pause_others(())
    states = {node.state for node in cluster.nodes}
    assert states == ({"paused"} if cluster.server == "mysql" else {"running"})
    assert shared.shared("cluster", cluster.server) is cluster
    assert {node.state for node in cluster.nodes} == {"running"}
    db.execute_sql("INSERT INTO item (name, n) VALUES ('new', 1)")
    cluster.sync()
    assert cluster.replicas[1].execute("SELECT name FROM app.item") == [("new",)]
