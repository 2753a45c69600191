"""What the README's first page promises, in one program, on each release of peewee, Python and the servers.

The steps are those of its first example and of its "Five minutes": the class is swapped, a row is written,
read back from a replica, changed in ``atomic()``, read in ``readonly()``, and the database is closed and used
again. Both classes for servers have them. `test_mixin_of_peewee_3` adds what only older programs do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.databases.models import Item, Note
from support.peewees import has_peewee

from peewee_replicas import PooledReplicatedDatabase, ReadOnlyViolation, ReplicatedDatabase
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.core


@pytest.fixture
def database_class() -> Any:
    return ReplicatedDatabase


@pytest.fixture
def database(cluster: LocalCluster, database_class: Any) -> Iterator[Any]:
    made = cluster.database(database_class, catch_up_timeout=60)
    with made.bind_ctx([Item, Note]):
        with made.primary():
            made.drop_tables([Note, Item], safe=True)
            made.create_tables([Item, Note])
        made.close()
        cluster.sync()
        yield made
        if not made.is_closed():
            made.close()


@pytest.mark.parametrize("database_class", [ReplicatedDatabase, PooledReplicatedDatabase])
def test_the_main_job(database: Any, cluster: LocalCluster) -> None:
    events: list[Any] = []
    database.route_hooks.append(events.append)

    def roles() -> list[tuple[str, str]]:
        found = [(event.kind, event.role) for event in events]
        events.clear()
        return found

    with database.connection_context():
        made = Item.create(name="ada")
        assert Item.get(Item.name == "ada") == made
    assert roles() == [("write", "primary"), ("read", "replica")]

    with database.atomic():
        Item.update(n=Item.n + 1).execute()
        assert Item.get_by_id(made.id).n == 1
    with pytest.raises(ZeroDivisionError), database.atomic():
        Item.create(name="never")
        raise ZeroDivisionError
    told = roles()
    assert [kind for kind, _ in told if kind != "transaction"] == ["write", "read", "write"]
    assert [role for _, role in told] == ["primary"] * 7  # with BEGIN, COMMIT, BEGIN, ROLLBACK

    with database.readonly():
        assert [(item.name, item.n) for item in Item.select()] == [("ada", 1)]
        with pytest.raises(ReadOnlyViolation):
            Item.create(name="eve")
    assert roles() == [("read", "replica")]

    with database.primary():
        assert Item.select().count() == 1
    assert roles() == [("read", "primary")]

    assert database.close()
    assert database.is_closed()
    assert Item.select().count() == 1
    assert roles() == [("read", "replica")]
    database.close()
    database.dispose()
    assert Item.select().count() == 1


@pytest.mark.skipif(has_peewee("4.0"), reason="peewee 4 takes no commit")
def test_mixin_of_peewee_3(cluster: LocalCluster) -> None:
    class Retrying:
        def execute_sql(self, sql: str, params: Any = None, commit: Any = None) -> Any:
            return super().execute_sql(sql, params, commit)  # type: ignore[misc]

    class Database(Retrying, ReplicatedDatabase):
        pass

    database = cluster.database(Database)
    assert database.execute_sql("SELECT 1").fetchall() == ((1,),)
