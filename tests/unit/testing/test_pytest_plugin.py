"""The pytest plugin leaves suites that do not use it alone, and works where no server is installed.

What it may do to such a suite was listed by reading pytest's hooks: imports, lines in the report, options
and names of fixtures. What needs servers is in `tests/servers/testing/test_pytest_plugin_on_servers.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from support.pytest_runs import PLUGIN, ROOT, plugin_environment, run_pytest

NO_SERVERS = {
    "PEEWEE_REPLICAS_MARIADB": "/nowhere",
    "PEEWEE_REPLICAS_MYSQL": "/nowhere",
    "PEEWEE_REPLICAS_REQUIRE_SERVERS": "",
}
USES_CLUSTER = "def test_cluster(replica_cluster): pass\n"
ON_SQLITE = """
import pytest
from peewee import CharField, Model, OperationalError
from peewee_replicas import ReplicatedSqliteDatabase

@pytest.fixture
def replicated_database(tmp_path):
    database = ReplicatedSqliteDatabase(tmp_path / "app.db", readers=2)
    with database.bind_ctx([Item]):
        database.create_tables([Item])
        yield database
        database.close()

class Item(Model):
    name = CharField()
"""


def test_the_entry_point_is_the_module_that_is_tested_here() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["options"]["py_modules"] == PLUGIN
    assert config["options.entry_points"]["pytest11"].split() == ["peewee_replicas", "=", PLUGIN]


def test_importing_it_imports_nothing_else() -> None:
    program = (
        "import json, sys, pytest\n"
        "before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=plugin_environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [PLUGIN]


def test_a_suite_that_does_not_use_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_nothing_is_loaded():\n"
        f"    assert '{PLUGIN}' in sys.modules\n"
        "    assert not {'peewee', 'pymysql', 'peewee_replicas'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("peewee_replicas")]


def test_without_a_server_a_test_is_skipped_with_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(USES_CLUSTER)
    done = run_pytest(tmp_path, "-rs", **NO_SERVERS)
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("SKIPPED"))
    assert "PEEWEE_REPLICAS_MARIADB names /nowhere, and no MariaDB server runs from there" in line
    assert "peewee_replicas: no server, so tests that need one are skipped" in done.stdout


def test_without_a_server_that_is_required_the_test_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(USES_CLUSTER)
    done = run_pytest(tmp_path, "-q", **{**NO_SERVERS, "PEEWEE_REPLICAS_REQUIRE_SERVERS": "1"})
    assert done.returncode == 1, done.stdout
    assert "PEEWEE_REPLICAS_REQUIRE_SERVERS=1, and there is no server" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_server_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(USES_CLUSTER)
    done = run_pytest(tmp_path, "--peewee-replicas-server", "postgres")
    assert done.returncode == 4, done.stdout
    assert "is mariadb, mysql, or one of them with a version such as mariadb-11.8" in done.stdout


def test_fixtures_work_with_the_programs_own_database(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(ON_SQLITE)
    (tmp_path / "test_it.py").write_text("""
import pytest
from conftest import Item
from peewee import OperationalError

def test_routes(replicated_database, assert_routes, assert_no_replica_reads):
    with assert_routes("primary", "replica", "reader-2", "primary"):
        Item.create(name="a")
        assert Item.select().count() == 1
        assert Item.select().count() == 1
        with replicated_database.atomic():
            assert Item.select().count() == 1
    with assert_no_replica_reads(), replicated_database.primary():
        assert Item.select().count() == 1

def test_wrong_routes(assert_routes):
    with assert_routes("primary"):
        Item.select().count()

def test_missing_statement(assert_routes):
    with assert_routes("replica", "replica"):
        Item.select().count()

def test_a_read(assert_no_replica_reads):
    with assert_no_replica_reads():
        Item.select().where(Item.name == "secret").count()

def test_fault(replicated_database, raise_on_next):
    raise_on_next("reader-1", OperationalError("disk I/O error"))
    raise_on_next("reader-2", OperationalError("disk I/O error"))
    for _ in range(2):
        with pytest.raises(OperationalError, match="disk I/O error"):
            Item.select().count()
    assert Item.select().count() == 0

def test_fault_that_is_not_met(raise_on_next):
    raise_on_next("reader-1", OperationalError("disk I/O error"))

def test_fault_that_is_met_too_rarely(raise_on_next):
    raise_on_next("primary", OperationalError("disk I/O error"), times=3)
    for _ in range(2):
        with pytest.raises(OperationalError, match="disk I/O error"):
            Item.create(name="a")

def test_fault_of_nobody(raise_on_next):
    raise_on_next("raeder-2", OperationalError("disk I/O error"))

def test_no_number_of_times(raise_on_next):
    raise_on_next("reader-1", OperationalError("disk I/O error"), times=0)
""")
    done = run_pytest(tmp_path, "--tb=short", "-rfE")
    failed = [
        line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))
    ]
    assert failed == [
        "FAILED test_it.py::test_wrong_routes",
        "FAILED test_it.py::test_missing_statement",
        "FAILED test_it.py::test_a_read",
        "FAILED test_it.py::test_fault_of_nobody",
        "FAILED test_it.py::test_no_number_of_times",
        "ERROR test_it.py::test_fault_that_is_not_met",
        "ERROR test_it.py::test_fault_that_is_met_too_rarely",
    ], done.stdout
    assert "expected 1 statement on primary, and 1 statement ran there:" in done.stdout
    assert "expected 2 statements on replica, replica, and 1 statement ran there:" in done.stdout
    assert "expected no reads on replicas, and 1 statement ran there:" in done.stdout
    assert '  reader-1: SELECT COUNT(1) FROM (SELECT 1 FROM "item" AS "t1") AS "_wrapped"' in done.stdout
    assert "no statement was sent to reader-1, so its error was not raised" in done.stdout
    assert "only 2 of 3 statements were sent to primary, so its error was not raised" in done.stdout
    assert (
        "no node 'raeder-2': there are primary, reader-1, reader-2; did you mean 'reader-2'?" in done.stdout
    )
    assert "times=0: a number of statements, 1 or more, is wanted" in done.stdout
