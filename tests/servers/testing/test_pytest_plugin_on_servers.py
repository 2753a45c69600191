"""The pytest plugin's fixtures on real servers, in runs of pytest of their own.

The members are the fixtures that `_peewee_replicas_pytest` defines, and the ways in which a run can be
carried out or end: in one process, with xdist's workers, and killed. What a test may leave behind are stopped
nodes, transactions, stopped replication, and locks on the primary and on a replica.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.clusters import require
from support.peewees import needs_asyncio
from support.pytest_runs import run_pytest
from support.waiting import until

from peewee_replicas.testing.installations import find
from peewee_replicas.testing.janitor import is_running

ONE_REPLICA = """
import json, os, pathlib
import pytest
from peewee import CharField, Model

class Item(Model):
    name = CharField()

@pytest.fixture(scope="session")
def replica_cluster_options():
    return {"replicas": 1}
"""
IN_TURN = """
import pytest
from conftest import Item
from peewee import OperationalError

@pytest.fixture(autouse=True)
def items(replicated_database):
    with replicated_database.bind_ctx([Item]):
        replicated_database.create_tables([Item])
        yield

def test_1_a_test_that_leaves_much_behind(replica_cluster, replicated_database):
    Item.create(name="a")
    replica_cluster.sync()
    replica_cluster.replicas[0].freeze()
    replica_cluster.primary.kill()

def test_2_begins_with_an_empty_database(clean_replica_cluster, replicated_database, assert_routes):
    clean_replica_cluster.sync()
    with assert_routes("primary", "replica-1"):
        Item.create(name="b")
        assert [item.name for item in Item.select()] == ["b"]

def test_3_leaves_a_transaction_open(replicated_database):
    other = type(replicated_database)(
        replicated_database.database, **{**replicated_database.connect_params, "replicas": []}
    )
    other.begin()
    other.execute_sql("INSERT INTO item (name) VALUES ('c')")
    globals()["kept"] = other

def test_4_is_not_held_up_by_it(replica_cluster, assert_no_replica_reads, replicated_database):
    with assert_no_replica_reads(), replicated_database.primary():
        assert Item.select().count() == 0
    replica_cluster.replicas[0].execute("CREATE DATABASE errant")
    replica_cluster.primary.execute("CREATE DATABASE errant")

def test_5_and_not_by_replication_that_has_stopped(raise_on_next, replica_cluster):
    Item.create(name="d")
    replica_cluster.sync()
    raise_on_next("replica-1", OperationalError(2013))
    assert Item.select().count() == 1

def test_6_one_server(one_server, assert_routes):
    with assert_routes("primary", "replica-1"):
        Item.create(name="e")
        assert Item.select().count() == 1
    assert one_server.in_transaction() is False

@pytest.mark.parametrize("node", [0, 1])
def test_7_leaves_tables_locked(replica_cluster, replicated_database, node):
    replica_cluster.sync()
    parameters = dict(replicated_database.connect_params)
    other = type(replicated_database)(replicated_database.database, **{
        **parameters, "port": replica_cluster.nodes[node].port, "replicas": [], "probe_interval": None,
    })
    other.execute_sql("LOCK TABLES item READ")
    globals().setdefault("locked", []).append((other, replica_cluster.primary.pid))

@pytest.mark.parametrize("node", [0, 1])
def test_8_is_not_held_up_by_locks_nor_needs_new_servers(replica_cluster, clean_replica_cluster, node):
    assert locked[node][1] == replica_cluster.primary.pid
"""


def test_the_fixtures_work_one_after_the_other(tmp_path: Path) -> None:
    require("mariadb")
    (tmp_path / "conftest.py").write_text(ONE_REPLICA)
    (tmp_path / "test_it.py").write_text(IN_TURN)
    done = run_pytest(tmp_path, "--peewee-replicas-server", "mariadb", "--tb=short")
    assert done.returncode == 0, done.stdout
    assert "10 passed" in done.stdout
    assert f"peewee_replicas: MariaDB {find('mariadb').version}" in done.stdout


@needs_asyncio
def test_one_server_wraps_a_coroutine_function_in_its_own_loop(tmp_path: Path) -> None:
    require("mysql")
    (tmp_path / "conftest.py").write_text(
        ONE_REPLICA
        + """
import asyncio, inspect
from peewee_replicas.aio import AsyncReplicatedDatabase

@pytest.fixture
def replicated_database(clean_replica_cluster):
    database = clean_replica_cluster.database(AsyncReplicatedDatabase)
    async def create():
        await database.acreate_tables([Item])
        await database.close_pool()
    with database.bind_ctx([Item]):
        asyncio.run(create())
        yield database

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    async def run():
        names = pyfuncitem._fixtureinfo.argnames
        await pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(run())
        return True
"""
    )
    (tmp_path / "test_it.py").write_text("""
import pytest
from conftest import Item

@pytest.mark.parametrize("time", [1, 2])
async def test_async(one_server, assert_routes, time):
    with assert_routes("primary", "replica-1"):
        await one_server.aexecute(Item.insert(name="a"))
        assert await one_server.count(Item.select()) == 1

def test_sync(one_server):
    pass
""")
    done = run_pytest(tmp_path, "-rfE", "--tb=short", "--peewee-replicas-server", "mysql")
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "one_server with an asyncio database needs a test that is an async function" in done.stdout


def test_each_worker_of_xdist_has_a_cluster_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    require("mariadb")
    (tmp_path / "conftest.py").write_text(ONE_REPLICA)
    (tmp_path / "test_it.py").write_text("""
import os, pathlib, pytest

@pytest.mark.parametrize("number", [1, 2])
def test_cluster(replica_cluster, number):
    pathlib.Path(os.environ["PYTEST_XDIST_WORKER"]).write_text(str(replica_cluster.primary.port))
    assert list(replica_cluster.primary.execute("SELECT 1")) == [(1,)]
""")
    done = run_pytest(tmp_path, "-n", "2", "--dist", "each", "--peewee-replicas-server", "mariadb")
    assert done.returncode == 0, done.stdout
    ports = {(tmp_path / worker).read_text() for worker in ("gw0", "gw1")}
    assert len(ports) == 2


def test_no_server_is_left_behind_by_a_run_that_was_killed(tmp_path: Path) -> None:
    require("mariadb")
    (tmp_path / "conftest.py").write_text(ONE_REPLICA)
    (tmp_path / "test_it.py").write_text("""
import json, os, pathlib, signal
from peewee_replicas.testing.janitor import start_time

def test_it(replica_cluster):
    servers = [(node.pid, start_time(node.pid)) for node in replica_cluster.nodes]
    pathlib.Path("servers.json").write_text(json.dumps(servers))
    os.kill(os.getpid(), signal.SIGKILL)
""")
    done = run_pytest(tmp_path, "--peewee-replicas-server", "mariadb")
    assert done.returncode == -9, done.stdout
    servers = json.loads((tmp_path / "servers.json").read_text())
    assert len(servers) == 2
    until(lambda: not any(is_running(pid, start) for pid, start in servers), 60)
