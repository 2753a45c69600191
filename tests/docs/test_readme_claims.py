"""What the pages say in prose, where no block of code on them shows it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peewee import CharField, Model
from support import clusters
from support.clusters import as_in_another_process
from support.databases.models import Item
from support.pytest_runs import run_pytest

from peewee_replicas.testing import LocalCluster

PAGE = Path(__file__).parents[2] / "docs/testing.md"


@pytest.fixture
def own_cluster() -> Iterator[LocalCluster]:
    """One that a test may harm."""
    with clusters.own_cluster("mariadb") as running:
        yield running


def make_user(db: Any) -> type[Model]:
    class User(Model):
        name = CharField(unique=True)

        class Meta:
            database = db

    return User


def test_with_db_is_a_transaction_on_the_primary(db: Any) -> None:
    with db:
        assert db.explain_route("SELECT 1").reason == "a transaction is open"
    with db.connection_context():
        assert db.explain_route("SELECT 1").role == "replica"


def test_scopes_follow_tasks_and_to_thread_but_not_new_threads(db: Any) -> None:
    reasons: dict[str, str] = {}

    def look(where: str) -> None:
        reasons[where] = db.explain_route("SELECT 1").reason

    async def look_in_task() -> None:
        look("task")

    async def main() -> None:
        with db.primary():
            await asyncio.gather(look_in_task(), asyncio.to_thread(look, "to_thread"))

    asyncio.run(main())
    with db.primary():
        thread = threading.Thread(target=look, args=("thread",))
        thread.start()
        thread.join()
    inside = "inside primary()"
    assert reasons == {"task": inside, "to_thread": inside, "thread": "a proven read"}


def test_greenlets_start_without_a_scope_and_keep_their_own_to_themselves() -> None:
    program = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent\n"
        "from peewee_replicas import ReplicatedDatabase\n"
        "db = ReplicatedDatabase('app', replicas=['replica.db'])\n"
        "def role(): return db.explain_route('SELECT 1').role\n"
        "def scoped():\n"
        "    with db.primary():\n"
        "        gevent.sleep(0)\n"
        "        return role()\n"
        "with db.primary(): started = gevent.spawn(role).get()\n"
        "inside, outside = gevent.spawn(scoped), gevent.spawn(role)\n"
        "gevent.joinall([inside, outside])\n"
        "print(started, inside.value, outside.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["replica", "primary", "replica"], done.stderr


def test_the_scope_at_execution_counts(db: Any, cluster: LocalCluster) -> None:
    with db.primary():
        query = Item.select()
    assert list(query) == []
    counts = cluster.counts()
    assert counts["primary"].reads == 0
    assert sum(counts[node.name].reads for node in cluster.replicas) == 1


def test_a_program_that_only_reads_does_not_need_the_primary(own_cluster: LocalCluster) -> None:
    db = own_cluster.database()
    user = make_user(db)
    db.create_tables([user])
    user.create(name="ada")
    db.close()
    own_cluster.sync()
    with as_in_another_process():  # this one has written, and so would ask once how far the primary is
        db = own_cluster.database()
    user.bind(db)
    own_cluster.reset_counts()
    for _ in range(4):
        with db.connection_context(), db.readonly():
            assert user.select().count() == 1
    assert own_cluster.counts()["primary"].connections == 0
    own_cluster.primary.kill()
    for _ in range(4):
        with db.connection_context():
            assert user.select().count() == 1


def test_get_or_create_is_right_while_no_replica_has_the_row(own_cluster: LocalCluster) -> None:
    db = own_cluster.database()
    user = make_user(db)
    db.create_tables([user])
    own_cluster.sync()
    for replica in own_cluster.replicas:
        replica.freeze()
    user.create(name="ada")
    assert user.get_or_create(name="ada")[1] is False
    assert user.get_or_create(name="grace")[1] is True
    assert user.get(name="grace").name == "grace"


def test_read_timeout_bounds_what_a_hung_replica_costs(own_cluster: LocalCluster) -> None:
    db = own_cluster.database(read_timeout=1)
    user = make_user(db)
    db.create_tables([user])
    own_cluster.sync()
    assert [user.select().count() for _ in range(2)] == [0, 0]
    hung = own_cluster.replicas[0]
    hung.pause()
    assert [user.select().count() for _ in range(4)] == [0, 0, 0, 0]
    assert [replica.state for replica in db.replicas] == ["ejected", "up"]
    assert db.stats()["fallbacks"] == 0


MY_APP = """
from peewee import CharField
from peewee_replicas import ReplicatedDatabase

db = ReplicatedDatabase({arguments})

class User(db.Model):
    name = CharField()

MODELS = [User]
"""


def shown_under_with_pytest() -> list[str]:
    """The blocks of that section: a conftest.py, tests for it, and another conftest.py."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## With pytest") : text.index("## Faults")]
    found = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(found) == 3
    return found


def make_suite(folder: Path, conftest: str, tests: str, arguments: str) -> None:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_app.py").write_text(tests)
    (folder / "myapp").mkdir()
    (folder / "myapp/models.py").write_text(MY_APP.format(arguments=arguments))


def test_the_suite_over_a_cluster_on_the_page_on_testing_passes(tmp_path: Path) -> None:
    clusters.require("mariadb")
    conftest, tests, _ = shown_under_with_pytest()
    make_suite(tmp_path, conftest, tests, "None")
    done = run_pytest(tmp_path, "-o", "pythonpath=.")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_suite_on_one_server_on_the_page_on_testing_is_rolled_back(
    tmp_path: Path, db: Any, cluster: LocalCluster
) -> None:
    *_, conftest = shown_under_with_pytest()
    test = """
from myapp.models import User

def test_users(assert_routes):
    with assert_routes("primary", "replica"):
        User.create(name="ada")
        assert User.select().count() == 1

def test_again(assert_routes):
    test_users(assert_routes)
"""
    make_suite(
        tmp_path,
        conftest,
        test,
        f"**{cluster.parameters('primary')!r}, replicas=['not-there.invalid'], probe_interval=None",
    )
    cluster.primary.execute(
        f"CREATE TABLE {cluster.database_name}.user (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT)"
    )
    try:
        done = run_pytest(tmp_path, "-o", "pythonpath=.")
        assert done.returncode == 0, done.stdout
        assert "2 passed" in done.stdout
    finally:
        cluster.primary.execute(f"DROP TABLE {cluster.database_name}.user")
