"""The code of README.md and docs/*.md runs on real servers, and their tables say what is so.

How a page is run, from top to bottom, in one namespace:

- a ``python`` block is executed; a ``pycon`` block is a doctest;
- ``primary.db``, ``replica-1.db`` and ``replica-2.db`` lead to a primary and two replicas, and
  ``DB_PASSWORD`` is the password of the user ``app`` there; ``boto3`` and ``hvac`` are stand-ins;
- between two blocks the replicas catch up with the primary;
- ``<!-- a program of its own -->`` before a block: it starts with an empty namespace, and leaves none behind;
- ``<!-- printed by the program above -->``: the block is what the ``python`` block before it prints;
- ``<!-- not run: reason -->``: the block is not run.
"""

from __future__ import annotations

import asyncio
import doctest
import inspect
import re
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from types import ModuleType
from typing import Any

import peewee
import pytest
from support.pages import ROOT, Block, blocks
from support.secret_stores import stand_in

import peewee_replicas
from peewee_replicas import ReplicatedDatabase, Route, RouteEvent
from peewee_replicas.cli import findings
from peewee_replicas.cli.command import main
from peewee_replicas.events import CAUSES
from peewee_replicas.routing.settings import OWN_ARGUMENTS
from peewee_replicas.testing import ClusterNode, Counts, LocalCluster

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
HOSTS = {"primary.db": "primary", "replica-1.db": "replica-1", "replica-2.db": "replica-2"}


def run(block: Block, namespace: dict[str, Any]) -> None:
    if block.language == "python":
        # Line numbers in tracebacks are those of the page.
        code = compile("\n" * block.line + block.source, str(ROOT / block.page), "exec")
        exec(code, namespace)
        return
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(block.source, {}, block.page, block.page, block.line)
    test.globs = namespace  # not a copy: what a block defines is there in the next
    told: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=flags).run(test, out=told.append, clear_globs=False)
    assert not failed, "".join(told)


def close(namespace: dict[str, Any]) -> None:
    for value in namespace.values():
        if isinstance(value, peewee.Database):
            if not value.is_closed():
                value.close()
            if hasattr(value, "close_all"):
                value.close_all()
            value.dispose()  # its prober ends


def empty(cluster: LocalCluster) -> None:
    database = cluster.database_name
    cluster.primary.execute(f"DROP DATABASE `{database}`")
    cluster.primary.execute(f"CREATE DATABASE `{database}`")
    cluster.sync()


@pytest.fixture
def named_hosts(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """The names that the pages use lead to the cluster, which is empty."""
    look_up: Callable[..., Any] = socket.getaddrinfo

    def look_up_by_name(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in HOSTS:
            node = cluster.node(HOSTS[host])
            host, port = node.host, node.port
        return look_up(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_by_name)
    open_connection: Any = asyncio.BaseEventLoop.create_connection

    async def open_by_name(loop: Any, factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        if host in HOSTS:
            node = cluster.node(HOSTS[host])
            host, port = node.host, node.port
        return await open_connection(loop, factory, host, port, **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", open_by_name)
    monkeypatch.setenv("DB_PASSWORD", cluster.password)
    stand_in(monkeypatch)
    empty(cluster)
    yield cluster
    empty(cluster)  # what a page leaves is in nobody's way


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(
    page: str, named_hosts: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    printed = ""
    try:
        for block in blocks(page):
            if block.note.startswith("not run"):
                continue
            if block.note == "printed by the program above":
                assert block.source == printed, f"{page}, line {block.line}"
            if block.language not in ("python", "pycon"):
                continue
            capsys.readouterr()
            if block.note == "a program of its own":
                own: dict[str, Any] = {"__name__": "page"}
                try:
                    run(block, own)
                finally:
                    close(own)
            else:
                run(block, namespace)
            printed = capsys.readouterr().out
            named_hosts.sync()
    finally:
        close(namespace)


def test_a_block_that_is_wrong_is_noticed() -> None:
    with pytest.raises(ZeroDivisionError):
        run(Block("page", 1, "python", "", "1 / 0"), {})
    with pytest.raises(AssertionError, match="Expected"):
        run(Block("page", 1, "pycon", "", ">>> 1 + 1\n3\n"), {})


def test_only_known_notes_are_used_and_every_exception_has_its_reason() -> None:
    known = re.compile(
        r"a program of its own|printed by the program above|not run: .{10,}"
        r"|(my\.cnf of|on) .*, (MariaDB|MySQL)",
        re.DOTALL,
    )
    pages = {page: blocks(page) for page in PAGES}
    assert sum(block.language == "python" for page in pages.values() for block in page) > 80
    for page, found in pages.items():
        assert (ROOT / page).read_text(encoding="utf-8").count("```") == 2 * len(found), page
        for block in found:
            assert not block.note or known.fullmatch(block.note), (page, block.line, block.note)
            if page != "docs/index.md":
                assert block.language in ("python", "pycon", "sh", "ini", "sql", "yaml", ""), (
                    page,
                    block.line,
                )
            if block.language in ("ini", "sql", "yaml"):
                assert block.note, f"{page}, line {block.line}: what runs this block?"


def test_the_readme_is_a_front_page() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    screen = " ".join(lines[:25])
    limit = (
        "A value read from a replica may be old, so read-modify-write belongs in `atomic()` or `primary()`"
    )
    assert limit in screen
    assert "docs/pictures/architecture.svg" in screen


# Tables


def rows(page: str, first_cell: str) -> list[list[str]]:
    """The rows of the page's tables whose header begins with a cell of this text."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith(f"| {first_cell} |")]
    assert heads, f"{page} has no table of {first_cell!r}"
    found = []
    for head in heads:
        for line in lines[head + 2 :]:
            if not line.startswith("|"):
                break
            found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def codes(cell: str) -> list[str]:
    return [found.strip() for _, found in re.findall(r"(`+)(.+?)\1(?!`)", cell)]


def test_statements_go_where_the_routing_tables_say(cluster: LocalCluster) -> None:
    database = cluster.database()
    database.connect()  # from here on it knows which server it has
    try:
        table = rows("docs/routing.md", "statement")
        assert len(table) > 25
        for cell, role, *_ in table:
            for sql in codes(cell):
                assert database.explain_route(sql).role == role, sql
    finally:
        database.close()


@pytest.mark.parametrize("page", ["docs/configuration.md", "docs/reference.md"])
def test_the_table_of_arguments_is_complete_and_its_defaults_are_so(page: str) -> None:
    plain = ReplicatedDatabase("app")
    told = {codes(name)[0]: codes(default)[0] for name, default, *_ in rows(page, "argument")}
    assert set(told) == set(OWN_ARGUMENTS)
    settings = plain._parts.router.settings
    given = {name: eval(default) for name, default in told.items()}
    explicit = ReplicatedDatabase("app", **given)._parts.router.settings
    for name in set(OWN_ARGUMENTS) - {"replicas", "policy"}:
        assert getattr(settings, name) == given[name] == getattr(explicit, name)
    assert type(settings.policy) is type(explicit.policy)
    assert plain.replicas == given["replicas"]


def test_the_table_of_errors_is_complete_and_their_ancestry_is_so() -> None:
    errors = {
        name
        for name in peewee_replicas.__all__
        if isinstance(getattr(peewee_replicas, name), type)
        and issubclass(getattr(peewee_replicas, name), Exception)
    }
    told = {codes(row[0])[0]: codes(row[1]) for row in rows("docs/reference.md", "error")}
    assert set(told) == errors
    for name, ancestors in told.items():
        for ancestor in ancestors:
            base = eval(ancestor, {"peewee": peewee})
            assert issubclass(getattr(peewee_replicas, name), base), (name, ancestor)


def test_the_reference_names_everything_that_is_public() -> None:
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    wanted = [*peewee_replicas.__all__, *Route._fields, *RouteEvent._fields]
    assert [name for name in wanted if f"`{name}" not in text] == []
    keys = ReplicatedDatabase("app", replicas=["a:1"]).stats()
    told = [key for row in rows("docs/reference.md", "counter") for key in codes(row[0])]
    told = [key.replace("CAUSE", cause) for key in told for cause in (CAUSES if "CAUSE" in key else ("",))]
    assert {key.replace("NAME.", "a:1.") for key in told} == {
        key for key in keys if not key.startswith("primary.") or key.startswith("primary.because.")
    }
    assert [cause for row in rows("docs/reference.md", "cause") for cause in codes(row[0])] == list(CAUSES)


def test_the_page_on_testing_names_every_member() -> None:
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    internal = {"abandon", "destroy", "drop_schema", "follow", "position", "wait_for"}
    for owner in (LocalCluster, ClusterNode, Counts):
        names = {name for name, _ in inspect.getmembers(owner) if not name.startswith("_")}
        missing = sorted(name for name in names - internal if f"`{name}" not in text)
        assert missing == [], owner


def test_the_versions_are_those_of_the_metadata() -> None:
    metadata = ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    needs = metadata["options"]["install_requires"].split()
    assert needs == ["peewee>=3.17,<5", "PyMySQL>=1.1,<2"]
    assert metadata["options"]["python_requires"] == ">=3.10"
    for page in ("README.md", "docs/limits.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert (
            "Python 3.10 and later; peewee 3.17 and later, below 5; PyMySQL 1.1 and later, below 2." in text
        )


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (ROOT / page).parent.joinpath(target).is_file(), (page, target)


# Screens of the command: blocks that begin with `$ pwreplicas`. Numbers, versions and the width of columns
# may differ, and so may the privilege that each server wants, and whether it offers TLS as it comes.

COMMAND = "docs/command.md"


def plain(screen: str) -> str:
    """A screen without what may differ."""
    screen = screen.replace("REPLICATION CLIENT", "SLAVE MONITOR")
    screen = re.sub(r"^\S+: .* \[tls\]\n(    .*\n)*", "", screen, flags=re.MULTILINE)
    screen = re.sub(r"\b\d+\.\d+\.\d+\S*", "VERSION", screen)
    screen = re.sub(r"(?<![-\w:])\d+(\.\d+)?\b", "N", screen)
    return re.sub(r"-{3,}", "--", re.sub(r" {2,}", "  ", screen)).strip()


def test_the_screens_are_what_the_command_prints(
    named_hosts: LocalCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop: Any = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", shop)
    screens = 0
    try:
        for block in blocks(COMMAND):
            if block.language == "python":
                run(block, vars(shop))
            elif block.source.startswith("$ pwreplicas "):
                command, shown = block.source.removeprefix("$ pwreplicas ").split("\n", 1)
                capsys.readouterr()
                main(shlex.split(command))
                assert plain(capsys.readouterr().out) == plain(shown), command
                screens += 1
    finally:
        close(vars(shop))
    assert screens == 3


def test_a_screen_that_is_wrong_is_noticed() -> None:
    assert plain("a  1  up  0.3 s") == plain("a      12  up  4.0 s")
    assert plain("replica-1  up") != plain("replica-2  up")
    assert plain("a  up") != plain("a  down")


def test_the_table_of_codes_is_complete() -> None:
    with open(findings.__file__, encoding="utf-8") as file:
        known = set(re.findall(r'Finding\(\s*"([a-z-]+)"', file.read()))
    assert {codes(row[0])[0] for row in rows(COMMAND, "code")} == known
