"""What the lists call built in is built in on the server at hand, and what is not goes to the primary.

Members of the kind: every function and every word of the lists, called on the server; then the two reported
ones, MD5 on MySQL 9.7 and UUID_V7 on MariaDB 10.11, made as stored functions that take a named lock; and a
replica of another release than the primary's, which is met only when a read goes there (its greeting is
changed on the way in, as there is one release of each server here).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from support.clusters import SERVERS, administrator
from support.clusters.repaired import repaired

from peewee_replicas.servers.wire import connection as wire
from peewee_replicas.statements.functions import rules_for

NO_SUCH_FUNCTION = {1305, 1630}
# A function that is built in elsewhere, and not in the release at hand.
ABSENT = {"mysql": "MD5", "mariadb": "UUID_V7"}


def error_of(cursor: Any, text: str) -> int:
    try:
        cursor.execute(text)
    except pymysql.MySQLError as exc:
        return int(exc.args[0])
    return 0


@pytest.fixture(scope="module", params=SERVERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    with repaired(request.param, 1, []) as cluster:
        name = ABSENT[request.param].lower()
        with administrator(cluster, cluster.primary, database="app") as connection:
            if error_of(connection.cursor(), f"SELECT {name}()") not in NO_SUCH_FUNCTION:
                pytest.skip(f"{name} is built in on {request.param} {cluster.version}")
        admin = cluster.database(consistency="eventual", user=cluster.admin_user)
        admin.execute_sql(
            f"CREATE FUNCTION {name}() RETURNS CHAR(80) READS SQL DATA "
            "RETURN CONCAT(GET_LOCK('taken', 0), '@', @@server_id)"
        )
        admin.close()
        cluster.sync()
        yield cluster


def on_primary(cluster: Any) -> str:
    """What the stored function tells if it runs there."""
    ((number,),) = cluster.primary.execute("SELECT @@server_id")
    return f"1@{number}"


def test_nothing_of_the_lists_calls_a_stored_function(cluster: Any) -> None:
    rules = rules_for(cluster.server, cluster.version)
    assert len(rules.pure) > 300
    with administrator(cluster, cluster.replicas[0], database="app") as connection:
        cursor = connection.cursor()
        assert error_of(cursor, "SELECT no_such_function()") in NO_SUCH_FUNCTION  # or nothing is shown below
        stored = [
            name
            for name in sorted(rules.pure | rules.words)
            if error_of(cursor, f"SELECT {name}()") in NO_SUCH_FUNCTION
        ]
    assert stored == []


def test_what_is_not_built_in_goes_to_the_primary(cluster: Any) -> None:
    call = f"SELECT {ABSENT[cluster.server].lower()}()"
    db = cluster.database(consistency="eventual")
    try:
        # Twice: the first statement meets a server, and the second knows its release.
        for _ in range(2):
            ((told,),) = db.execute_sql(call).fetchall()
            assert told == on_primary(cluster)
        assert db.explain_route(call).role == "primary"
        assert db.explain_route("SELECT COUNT(*) FROM item").role == "replica"
    finally:
        db.close()


def test_a_replica_of_another_release_is_not_sent_what_only_the_primary_knows(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The primary claims a release that has the function built in.
    claimed = {"mysql": "9.5.0", "mariadb": "5.5.5-11.8.9-MariaDB"}[cluster.server]
    real = wire.Connection._get_server_information

    def greet(self: Any) -> None:
        real(self)
        if self.port == cluster.primary.port:
            self.server_version = claimed

    monkeypatch.setattr(wire.Connection, "_get_server_information", greet)
    call = f"SELECT {ABSENT[cluster.server].lower()}()"
    db = cluster.database(consistency="eventual", probe_interval=None)
    try:
        db.execute_sql("DO 0")  # opens the primary's connection, and no replica's
        assert db.explain_route(call).role == "replica"
        ((told,),) = db.execute_sql(call).fetchall()  # meets the replica
        assert told == on_primary(cluster)
        assert db.explain_route(call).role == "primary"
    finally:
        db.close()
