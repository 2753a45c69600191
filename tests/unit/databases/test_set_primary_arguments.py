"""`set_primary()` where it cannot work, and what it changes before anything is connected."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support.peewees import WITHOUT_ASYNCIO

from peewee_replicas import (
    ConfigurationError,
    PooledReplicatedDatabase,
    ReplicatedDatabase,
    ReplicatedSqliteDatabase,
)
from peewee_replicas.testing import one_server

CLASSES: list[Any] = [ReplicatedDatabase, PooledReplicatedDatabase]
if not WITHOUT_ASYNCIO:
    from peewee_replicas.aio import AsyncReplicatedDatabase

    CLASSES.append(AsyncReplicatedDatabase)

REPLICAS = [{"name": "one", "host": "r1"}, {"name": "two", "host": "r2", "user": "other"}]


@pytest.fixture(params=CLASSES)
def db(request: pytest.FixtureRequest) -> Any:
    return request.param("app", host="p", user="app", password="top secret", replicas=REPLICAS)


@pytest.mark.parametrize("name", ["tw", "primary", "p", None, 2, ["two"]])
def test_only_a_nodes_name_is_taken_and_the_message_lists_them(db: Any, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="the nodes are 'p:3306', 'one', 'two'") as caught:
        db.set_primary(name)
    assert "secret" not in str(caught.value)
    assert db.connect_params["host"] == "p"


def test_the_parameters_are_the_nodes_and_those_of_the_others_stay(db: Any) -> None:
    db.set_primary("two")
    found = {name: db.connect_params[name] for name in ("host", "user", "password")}
    assert found == {"host": "r2", "user": "other", "password": "top secret"}
    assert [replica.address for replica in db.replicas] == ["p:3306", "r1:3306"]
    db.set_replicas([{"name": "three", "host": "r3"}, {"name": "two", "host": "r2", "user": "other"}])
    assert [replica.address for replica in db.replicas] == ["p:3306", "r3:3306"]
    db.set_primary("three")
    assert (db.connect_params["host"], db.connect_params["user"]) == ("r3", "app")
    db.set_primary("p:3306")
    assert [replica.name for replica in db.replicas] == ["three", "two"]
    db.set_primary("two")
    db.init("app")
    assert (db.connect_params["host"], db.connect_params["user"]) == ("p", "app")
    assert [replica.name for replica in db.replicas] == ["three", "two"]


def test_a_file_and_one_server_in_all_roles_have_no_other_primary(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SQLite has one file"):
        ReplicatedSqliteDatabase(str(tmp_path / "x.db")).set_primary("reader-1")
    database = ReplicatedDatabase("app", host="p", replicas=REPLICAS)
    with one_server(database), pytest.raises(ConfigurationError, match="one_server"):
        database.set_primary("one")
    database.set_primary("one")


class Asked:
    """A lock that says when another thread asks for it."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.owner, self.asked = lock, threading.get_ident(), threading.Event()

    def __enter__(self) -> None:
        if threading.get_ident() != self.owner:
            self.asked.set()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@pytest.mark.parametrize("moved", [False, True])
def test_a_move_that_comes_while_init_runs_does_not_change_the_new_primary(db: Any, moved: bool) -> None:
    if moved:
        db.set_primary("one")
    members, cluster = db._members, db._parts.cluster
    cluster.membership_lock = lock = Asked(cluster.membership_lock)
    mover = threading.Thread(target=lambda: (cluster.on_new_primary("two", "seen"), done.set()))
    done, assemble = threading.Event(), members.assembly.assemble

    def interrupted(*args: Any) -> Any:
        mover.start()
        assert lock.asked.wait(60.0)
        assert done.wait(60.0)
        return assemble(*args)

    members.assembly.assemble = interrupted
    db.init("app", host="new")
    mover.join()
    assert db.connect_params["host"] == "new"
    assert db._parts.cluster.moved is None
    assert db._parts.cluster.reader.address == "new:3306"
    members.assembly.assemble = assemble
    db.set_primary("one")
    assert db.connect_params["host"] == "r1"
