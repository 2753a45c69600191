"""Packages that migrate tables, on a replica one second late: peewee's own, peewee-migrate, peewee-moves.

The members of the kind are those that a package registry finds under "peewee" and "migrat" whose newest
version installs beside this peewee. Each is used as its own documentation shows it: migrations are run, run
again with what was done already, undone, and run by its command, each step at once after the last.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from peewee import CharField, IntegerField
from playhouse.migrate import MySQLMigrator, migrate
from support.clusters.late import late, package

from peewee_replicas.testing import LocalCluster

migrations = pytest.importorskip("playhouse.migrations", reason="this peewee has no playhouse.migrations")

__all__ = ["late"]

SETTINGS = """\
from peewee_replicas import ReplicatedDatabase
DATABASE = ReplicatedDatabase(**{arguments!r})
"""


@pytest.fixture(name="db")
def _db(late: LocalCluster) -> Iterator[Any]:
    database = late.database()
    yield database
    for table in database.get_tables():
        database.execute_sql(f"DROP TABLE `{table}`")
    database.close()


@pytest.fixture(name="command")
def _command(late: LocalCluster, tmp_path: Path) -> Callable[..., str]:
    """Runs a module's command in a folder whose `conf.py` has the database; gives what it printed."""
    (tmp_path / "conf.py").write_text(SETTINGS.format(arguments=arguments(late)))

    def run(module: str, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def arguments(cluster: LocalCluster) -> dict[str, Any]:
    """The arguments of a database over the cluster, for another process."""
    replicas = [{"host": "127.0.0.1", "port": node.port} for node in cluster.replicas]
    return {**cluster.parameters(cluster.primary), "replicas": replicas}


def columns(database: Any, table: str) -> list[str]:
    return [column.name for column in database.get_columns(table)]


def test_playhouse_migrate(db: Any) -> None:
    class Story(db.Model):  # type: ignore[misc]  # the class is made at run time
        title = CharField()

    db.create_tables([Story])
    Story.create(title="a")
    migrator = MySQLMigrator(db)
    migrate(migrator.add_column("story", "likes", IntegerField(default=7)))
    assert db.execute_sql("SELECT title, likes FROM story").fetchall() == (("a", 7),)
    migrate(
        migrator.rename_column("story", "title", "name"),
        migrator.add_index("story", ("name",), unique=True),
        migrator.drop_column("story", "likes"),
    )
    assert columns(db, "story") == ["id", "name"]
    assert {"story_name"} < {index.name for index in db.get_indexes("story")}
    assert db.execute_sql("SELECT name FROM story").fetchall() == (("a",),)


FIRST = """\
from peewee import *
def up(migrator, db):
    class Shelf(Model):
        name = CharField()
        class Meta:
            database = db
            table_name = "shelf"
    db.create_tables([Shelf])
    Shelf.create(name="a")
    assert Shelf.get().name == "a"
def down(migrator, db):
    db.execute_sql("DROP TABLE shelf")
"""
SECOND = """\
from peewee import *
def up(migrator, db):
    migrator.add_column("shelf", "n", IntegerField(default=3)).run()
    db.execute_sql("UPDATE shelf SET n = n + 1")
def down(migrator, db):
    migrator.drop_column("shelf", "n").run()
"""


def test_pwmigrate(db: Any, command: Any, tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.py").write_text(FIRST)
    migrations.run(db, str(folder))
    (folder / "0002_second.py").write_text(SECOND)
    migrations.run(db, str(folder))
    migrations.run(db, str(folder))
    assert db.execute_sql("SELECT name, n FROM shelf").fetchall() == (("a", 4),)
    assert "0002_second" in command("playhouse.migrations", "conf.DATABASE", "status")
    command("playhouse.migrations", "conf.DATABASE", "down")
    assert columns(db, "shelf") == ["id", "name"]


BOOKS = """\
import peewee as pw
def migrate(migrator, database, *, fake=False):
    @migrator.create_model
    class Book(pw.Model):
        title = pw.CharField()
        class Meta:
            table_name = "book"
    migrator.sql("INSERT INTO book (title) VALUES ('a')")
def rollback(migrator, database, *, fake=False):
    migrator.remove_model("book")
"""
PAGES = """\
import peewee as pw
def migrate(migrator, database, *, fake=False):
    database.execute_sql("INSERT INTO book (title) VALUES ('b')")
    migrator.add_fields("book", pages=pw.IntegerField(default=3))
    migrator.sql("UPDATE book SET pages = pages + 1")
def rollback(migrator, database, *, fake=False):
    migrator.remove_fields("book", "pages")
"""
NOTHING = """\
def migrate(migrator, database, *, fake=False):
    pass
"""


def test_peewee_migrate(db: Any, command: Any, tmp_path: Path) -> None:
    """What was migrated already is replayed on a mock in the place of `peewee.Database.execute_sql()`."""
    package("peewee-migrate")
    from peewee_migrate import Router

    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "001_books.py").write_text(BOOKS)
    assert Router(db, migrate_dir=folder).run() == ["001_books"]
    (folder / "002_pages.py").write_text(PAGES)
    router = Router(db, migrate_dir=folder)
    assert (router.done, router.diff) == (["001_books"], ["002_pages"])
    assert router.run() == ["002_pages"]
    rows = "SELECT title, pages FROM book"
    assert db.execute_sql(rows).fetchall() == (("a", 4), ("b", 4))
    (folder / "conf.py").write_text((tmp_path / "conf.py").read_text())
    (folder / "003_nothing.py").write_text(NOTHING)
    assert "003_nothing" in command("peewee_migrate", "migrate", "--directory", str(folder))
    router = Router(db, migrate_dir=folder)
    router.rollback()
    assert db.execute_sql(rows).fetchall() == (("a", 4), ("b", 4))
    Router(db, migrate_dir=folder).rollback()
    assert columns(db, "book") == ["id", "title"]


MOVES = """\
def upgrade(migrator):
    migrator.database.execute_sql("CREATE TABLE film (id INT PRIMARY KEY, name VARCHAR(20))")
    migrator.database.execute_sql("INSERT INTO film VALUES (1, 'a')")
"""
MOVED = """\
def upgrade(migrator):
    migrator.add_column("film", "n", "int", null=True)
    migrator.database.execute_sql("UPDATE film SET n = 4")
def downgrade(migrator):
    migrator.drop_column("film", "n")
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it uses what peewee deprecates
def test_peewee_moves(db: Any, tmp_path: Path) -> None:
    moves: ModuleType = package("peewee-moves")
    (tmp_path / "0001_film.py").write_text(MOVES)
    assert moves.DatabaseManager(db, directory=str(tmp_path)).upgrade()
    (tmp_path / "0002_n.py").write_text(MOVED)
    manager = moves.DatabaseManager(db, directory=str(tmp_path))
    assert list(manager.db_migrations) == ["0001_film"]
    assert manager.upgrade()
    assert not manager.diff
    assert db.execute_sql("SELECT name, n FROM film").fetchall() == (("a", 4),)
    assert manager.downgrade()
    assert columns(db, "film") == ["id", "name"]
