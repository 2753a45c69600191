"""A signal handler may use the database while its thread is connecting: it does not wait for itself.

peewee connects under a lock. What a handler would do is done here by the user's own ``_connect()``, which
peewee calls under that lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.collecting import collect_quietly
from support.scripted_server import ScriptedServer

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase, ReplicatedSqliteDatabase

pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collects the connection that the outer one has replaced, so that no later test is warned of it."""
    yield
    collect_quietly()


def as_a_handler_would(cls: Any) -> Any:
    class Interrupted(cls):
        nested = 0

        def _connect(self) -> Any:
            if not type(self).nested:
                type(self).nested += 1
                self.execute_sql("SELECT 1").fetchall()
            return super()._connect()

    return Interrupted


def used_in_time(database: Any) -> None:
    done = threading.Event()

    def use() -> None:
        database.execute_sql("SELECT 2").fetchall()
        database.close()
        done.set()

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    assert done.wait(30)
    thread.join()
    assert type(database).nested == 1


@pytest.mark.parametrize("cls", [ReplicatedDatabase, PooledReplicatedDatabase])
@pytest.mark.parametrize("replicas", [0, 1])
def test_servers(cls: Any, replicas: int) -> None:
    with ScriptedServer() as primary, ScriptedServer() as replica:
        nodes = [{"host": "127.0.0.1", "port": replica.port}][:replicas]
        database = as_a_handler_would(cls)(**primary.parameters, replicas=nodes, probe_interval=None)
        used_in_time(database)


def test_sqlite(tmp_path: Path) -> None:
    used_in_time(as_a_handler_would(ReplicatedSqliteDatabase)(str(tmp_path / "app.db")))
