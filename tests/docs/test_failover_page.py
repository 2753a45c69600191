"""`docs/failover.md`: a planned switch by its steps, under a program that goes on running.

The blocks of the page are told apart by their notes, such as "on the new primary, MySQL"; all of them run.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.clusters import SERVERS, own_cluster
from support.pages import blocks, statements
from support.waiting import until

from peewee_replicas import PrimaryReadOnly, ReplicatedDatabase
from peewee_replicas.cli import status
from peewee_replicas.cli.findings import find_faults
from peewee_replicas.cli.survey import survey
from peewee_replicas.testing.control import REPLICATION

PAGE = "docs/failover.md"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Host names, which can be moved from node to node."""
    leads_to: dict[str, Any] = {}
    look_up: Callable[..., Any] = socket.getaddrinfo

    def by_name(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in leads_to:
            host, port = leads_to[host].host, leads_to[host].port
        return look_up(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", by_name)
    return leads_to


def replicas(*nodes: Any) -> list[dict[str, Any]]:
    return [{"host": node.host, "port": node.port} for node in nodes]


@pytest.mark.parametrize("server", SERVERS)
def test_the_steps_of_a_planned_switch_work(server: Any, names: dict[str, Any]) -> None:
    name = {"mariadb": "MariaDB", "mysql": "MySQL"}[server]
    ran = set()
    with own_cluster(server, 2) as cluster:
        old, new, other = cluster.nodes
        names["primary.db"] = old
        port = "MASTER_PORT" if server == "mariadb" else "SOURCE_PORT"
        replace = {
            "'replica-1.db'": f"'{new.host}', {port} = {new.port}",
            "'replication'": f"'{REPLICATION}'",
            "another password": cluster.password,
            "'app'": f"'{cluster.user}'",
        }

        def step(where: str, node: Any, **more: str) -> list[Any]:
            note = f"{where}, {name}"
            ran.add(note)
            return [node.execute(sql) for sql in statements(PAGE, note, {**replace, **more})]

        privilege = "SLAVE MONITOR" if server == "mariadb" else "REPLICATION CLIENT"
        old.execute(f"GRANT {privilege} ON *.* TO {cluster.user}@'%'")
        cluster.sync()
        parameters = {**cluster.parameters(old), "host": "primary.db"}

        db = ReplicatedDatabase(parameters.pop("database"), replicas=replicas(new, other), **parameters)
        try:
            db.execute_sql("CREATE TABLE mark (n INT)")
            db.execute_sql("INSERT INTO mark VALUES (1)")

            step("on the old primary", old)
            with pytest.raises(PrimaryReadOnly):
                db.execute_sql("INSERT INTO mark VALUES (2)")
            assert db.execute_sql("SELECT n FROM mark").fetchall() == ((1,),)
            at = old.position()
            assert step("on the new primary to wait", new, POSITION=at) == [[(0,)]]
            step("on the new primary", new)
            step("on every other replica", other)
            step("on the old primary to follow", old)
            names["primary.db"] = new
            db.set_replicas(replicas(old, other))
            step("on the old primary to close connections", old)

            db.execute_sql("INSERT INTO mark VALUES (3)")
            assert db.execute_sql("SELECT n FROM mark ORDER BY n").fetchall() == ((1,), (3,))
            with db.primary():
                assert db.execute_sql("SELECT @@port").fetchone() == (new.port,)

            address = f"{new.host}:{new.port}"

            def verify() -> tuple[list[Any], list[Any]]:
                found = survey(db, 20)
                # Not every server offers TLS as it comes.
                faults = [fault for fault in find_faults(found) if fault.code != "tls"]
                return [row["follows"] for row in status.rows(found)], faults

            # Replicas may still be on their way to the last write.
            right = [None, address, address], []
            until(lambda: verify() == right)
        finally:
            db.close()
            db.dispose()
    of_this_server = {block.note for block in blocks(PAGE) if block.note.endswith(name)}
    assert ran == of_this_server
