"""The rules of who may import whom. Each is read from the source, so an import in a function counts, too.

The rules are all that `docs/architecture.md` and CONTRIBUTING promise about imports: the order of the rooms,
decisions without a driver, a clock or peewee, servers without routing, a core without companions, packets in
one room, no circles, and no import that cannot be read from the source. For each there is also a test on a
package that breaks it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from imports import Import, Module, cycles, imports, imports_of, module_graph, read_package, room

pytestmark = pytest.mark.source

PACKAGE = Path(__file__).parents[2] / "peewee_replicas"
TESTS = Path(__file__).parents[1]

# From top to bottom: a room imports only rooms that stand on a line below its own.
ORDER = (
    {"__main__"},
    {"cli"},
    {"testing"},
    {"aio", "discover", "ext"},
    {"__init__"},  # the public names
    {"databases"},
    {"execution"},
    {"connections"},
    {"routing"},
    {"nodes"},
    {"consistency"},
    {"bookmarks"},
    {"positions", "scopes", "events"},
    {"servers"},
    {"statements"},  # what a text is, which servers ask of a statement that failed
    {"concurrency", "errors", "log"},
)
COMPANIONS = {"__main__", "cli", "testing", "aio", "discover", "ext"}

# What decides is told what it needs, the time included, and says what is to be done; it does nothing itself.
DECIDE = (
    "bookmarks",
    "cli.answers",
    "cli.explain",
    "cli.findings",
    "cli.status",
    "connections.failures",
    "consistency",
    "discover.answers",
    "events",
    "nodes",
    "positions",
    "routing",
    "scopes",
    "servers",
    "statements",
)
# Modules and folders of these rooms that do act, and why they stand there.
ACT = {
    "consistency.catch_up": "reads the clock for replicas that are waited for",
    "consistency.inquiry": "asks the primary for its position",
    "consistency.levels": "has the primary asked for its position",
    "nodes.cluster": "holds the nodes, which act",
    "nodes.discovery": "the thread that asks who the replicas are",
    "nodes.probe_line": "the prober's connection to one server",
    "nodes.probe_rounds": "the prober's thread",
    "nodes.probe_run": "the prober's threads and connections",
    "nodes.probe_sharers": "who shares a prober",
    "nodes.prober": "one database's part in a prober",
    "nodes.probe_records": "tells nodes, hooks and the log what the prober has found",
    "nodes.node": "counts time for a node's breaker, rest and latency",
    "nodes.replica_set": "reads the clock for nodes that warm up",
    "routing.choice": "asks the policy and holds scopes to nodes",
    "routing.picker": "asks the policy",
    "routing.router": "puts the rules to what is in force",
    "scopes.transaction_escapes": "finds the caller's line above peewee's",
    "servers.sqlite": "SQLite's connections",
    "servers.wire": "MySQL's and MariaDB's connections",
}
# Modules that decide and work with dates out of a table, which is no look at the clock.
DATES = {"nodes.interview", "nodes.lag"}
# What it may import besides; errors are classes of peewee's, which it may raise.
HARMLESS = {"concurrency", "errors", "log"}
OUTSIDE = {
    "aiomysql", "asyncio", "datetime", "peewee", "playhouse", "pymysql", "select", "selectors", "socket",
    "sqlite3", "ssl", "time",
}  # fmt: skip

# Where a server's packets are taken apart.
PACKETS = (
    "pymysql.protocol",
    "peewee_replicas.servers.wire.columns",
    "peewee_replicas.servers.wire.results",
    "peewee_replicas.servers.wire.trackers",
)

# Imports that break a rule and are being mended. A line that is no longer needed fails the test, too.
KNOWN: set[tuple[str, str]] = set()


class Broken(NamedTuple):
    """A rule that is broken, by which import."""

    rule: str
    by: Import

    @property
    def arrow(self) -> tuple[str, str]:
        return short(self.by.importer), short(self.by.imported)

    def __str__(self) -> str:
        return f"{self.rule}: {self.by}"


def short(name: str) -> str:
    return name.removeprefix("peewee_replicas.")


def within(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def decides(name: str) -> bool:
    return within(short(name), DECIDE) and not within(short(name), tuple(ACT))


def reads_clock(module: Module) -> bool:
    """Whether it imports the package's own clock."""
    return any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "Clock" for alias in node.names)
        for node in ast.walk(module.tree)
    )


def floor(name: str) -> int | None:
    return next((level for level, rooms in enumerate(ORDER) if room(name) in rooms), None)


def broken_rules(arrows: Iterable[Import], modules: Mapping[str, Module]) -> list[Broken]:
    """Every import that breaks a rule, once for each rule it breaks."""
    found: list[Broken] = []
    for each in arrows:
        ours = each.imported in modules
        rules = _by_our_rooms(each) if ours else _by_others(each)
        if within(each.imported, PACKETS) and not within(short(each.importer), ("servers.wire",)):
            rules = [*rules, "packets are read only in servers/wire"]
        found += [Broken(rule, each) for rule in rules]
    return found


def _by_our_rooms(each: Import) -> Iterator[str]:
    of, to = room(each.importer), room(each.imported)
    upper, lower = floor(each.importer), floor(each.imported)
    for name, level in ((of, upper), (to, lower)):
        if level is None:
            yield f"{name} has no place in the order of the rooms"
    if of != to and upper is not None and lower is not None and upper >= lower:
        yield f"{to} does not stand below {of}"
    if of == "servers" and to == "routing":
        yield "servers knows nothing of routing"
    if of not in COMPANIONS and to in COMPANIONS:
        yield "the core knows no companion"
    if decides(each.importer) and not decides(each.imported) and short(each.imported) not in HARMLESS:
        yield "what decides imports nothing that acts"


def _by_others(each: Import) -> Iterator[str]:
    dates = each.imported == "datetime.datetime" and short(each.importer) in DATES
    if decides(each.importer) and each.imported.split(".")[0] in OUTSIDE and not dates:
        yield "what decides imports no peewee, driver or clock"
    if each.imported in ("importlib", "importlib.import_module"):
        yield "imports can be read from the source"


def with_line(modules: Mapping[str, Module], name: str, line: str) -> dict[str, Module]:
    """The package with one more line at the end of a module, or with a new module of that line alone."""
    known = modules.get(name)
    text = f"{known.text if known else ''}\n{line}\n"
    path = known.path if known else PACKAGE / "new.py"
    return {**modules, name: Module(name, path, text, ast.parse(text))}


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read_package(PACKAGE)


def test_every_import_keeps_to_the_rules(modules: dict[str, Module]) -> None:
    broken = broken_rules(imports(modules), modules)
    unknown = [str(each) for each in broken if each.arrow not in KNOWN]
    assert not unknown, "\n".join(unknown)
    over = KNOWN - {each.arrow for each in broken}
    assert not over, f"no longer needed in KNOWN: {sorted(over)}"


PURE = [
    path
    for path in sorted(TESTS.rglob("test_*.py"))
    if "mark.pure" in path.read_text() and path != Path(__file__)
]


def packages_used(text: str, modules: Mapping[str, Module]) -> Iterator[str]:
    """What a test module imports that uses another package, itself or through the tests' own support."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        of = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for name in (f"{of}{alias.name}" for alias in node.names):
            top = name.split(".")[0]
            known = next((found for found in (name, of.rstrip(".")) if found in modules), "")
            if top == "support":
                yield from packages_used(_support(name).read_text(), modules)
            elif top == "peewee_replicas":
                # Waiting for a replica is decided there, beside the reading of the clock.
                if not decides(known) and short(known) not in {*HARMLESS, "consistency.catch_up"}:
                    yield name
            elif top in OUTSIDE - {"time", "datetime"}:
                yield name


def _support(name: str) -> Path:
    parts = name.split(".")
    paths = (TESTS.joinpath(*parts[:length]).with_suffix(".py") for length in range(len(parts), 0, -1))
    return next(path for path in paths if path.exists())


@pytest.mark.parametrize("path", PURE, ids=[path.stem for path in PURE])
def test_a_module_marked_pure_uses_no_other_package(path: Path, modules: dict[str, Module]) -> None:
    assert not list(packages_used(path.read_text(), modules))


@pytest.mark.parametrize(
    "line",
    [
        "import pymysql",
        "from playhouse.pool import MaxConnectionsExceeded",
        "from peewee_replicas import ReplicatedDatabase",
        "from peewee_replicas.nodes.prober import Prober",
        "from support.databases.models import Item",
    ],
)
def test_a_module_that_uses_another_package_is_not_pure(line: str, modules: dict[str, Module]) -> None:
    assert list(packages_used(line, modules))


def test_no_modules_import_each_other_in_a_circle(modules: dict[str, Module]) -> None:
    assert cycles(module_graph(modules)) == []


def test_modules_that_are_said_to_act_do(modules: dict[str, Module]) -> None:
    acting = {
        short(each.importer)
        for each in imports(modules)
        if each.imported.split(".")[0] in OUTSIDE
        or (each.imported in modules and not decides(each.imported) and short(each.imported) not in HARMLESS)
    }
    acting |= {short(name) for name, module in modules.items() if reads_clock(module)}
    idle = {name for name in ACT if not any(within(module, (name,)) for module in acting)}
    assert not idle, f"these only decide, so they need no line in ACT: {sorted(idle)}"


def test_what_decides_reads_no_clock(modules: dict[str, Module]) -> None:
    clock = "peewee_replicas.concurrency"
    reading = {name for name, module in modules.items() if reads_clock(module) and name != clock}
    assert reading
    assert not [name for name in reading if decides(name)]
    changed = with_line(modules, "peewee_replicas.routing.decision", "from ..concurrency import Clock")
    assert reads_clock(changed["peewee_replicas.routing.decision"])


def test_modules_that_work_with_dates_ask_no_clock(modules: dict[str, Module]) -> None:
    for name in DATES:
        module = modules[f"peewee_replicas.{name}"]
        assert "datetime.datetime" in {each.imported for each in imports_of(module, modules)}, name
        called = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
        assert not {"now", "utcnow", "today"} & called, name


def test_each_name_in_the_rules_is_one_in_the_package(modules: dict[str, Module]) -> None:
    rooms = {room(name) for name in modules}
    assert {name for names in ORDER for name in names} == rooms
    missing = {name for name in {*DECIDE, *ACT, *HARMLESS} if f"peewee_replicas.{name}" not in modules}
    assert not missing


@pytest.mark.parametrize(
    ("importer", "line", "rule", "imported"),
    [
        ("servers.mysql", "from ..routing import plan", "does not stand below", "routing.plan"),
        ("servers.mysql", "from ..routing import plan", "nothing of routing", "routing.plan"),
        (
            "nodes.latency",
            "from ..routing.plan import make_plan",
            "does not stand below",
            "routing.plan",
        ),
        ("events", "from .scopes import frames", "does not stand below", "scopes.frames"),
        ("aio.tasks", "from ..ext import jobs", "does not stand below", "ext.jobs"),
        ("databases.mysql", "from .. import __all__", "does not stand below", ""),
        ("databases.mysql", "from ..aio import tasks", "knows no companion", "aio.tasks"),
        ("databases.mysql", "from ..testing import counts", "knows no companion", "testing.counts"),
        ("", "from .testing import LocalCluster", "knows no companion", "testing"),
        ("databases.mysql", "from ..cli import command", "knows no companion", "cli.command"),
        ("ext.health", "from ..cli import answers", "does not stand below", "cli.answers"),
        ("cli.findings", "from .survey import survey", "nothing that acts", "cli.survey"),
        ("cli.status", "import time", "no peewee, driver or clock", "time"),
        ("", "from .ext.wsgi import *", "knows no companion", "ext.wsgi"),
        ("routing.plan", "import time", "no peewee, driver or clock", "time"),
        (
            "routing.plan",
            "from datetime import datetime",
            "no peewee, driver or clock",
            "datetime.datetime",
        ),
        ("statements.tokens", "import peewee", "no peewee, driver or clock", "peewee"),
        (
            "statements.tokens",
            "from playhouse.pool import x",
            "no peewee, driver or clock",
            "playhouse.pool.x",
        ),
        ("nodes.breaker", "import pymysql.err", "no peewee, driver or clock", "pymysql.err"),
        ("positions", "import aiomysql", "no peewee, driver or clock", "aiomysql"),
        ("routing.policies", "from .router import *", "nothing that acts", "routing.router"),
        ("execution.attempt", "from pymysql.protocol import MysqlPacket", "only in servers/wire", ""),
        ("aio.pool", "from ..servers.wire import results", "only in servers/wire", "servers.wire.results"),
        ("execution.attempt", "from importlib import import_module", "read from the source", ""),
        ("misc", "from .errors import ConfigurationError", "misc has no place", "errors"),
    ],
)
def test_a_rule_that_is_broken_names_the_import(
    modules: dict[str, Module], importer: str, line: str, rule: str, imported: str
) -> None:
    name = f"peewee_replicas.{importer}".rstrip(".")
    before = broken_rules(imports_of(modules[name], modules), modules) if name in modules else []
    for around in ("{}", "def later():\n    {}", "if TYPE_CHECKING:\n    {}", "try:\n    {}\nfinally: ..."):
        changed = with_line(modules, name, around.format(line))
        new = set(broken_rules(imports_of(changed[name], changed), changed)) - set(before)
        (found,) = (str(each) for each in new if rule in each.rule)
        assert name in found
        assert imported in found


def test_a_circle_is_found(modules: dict[str, Module]) -> None:
    changed = with_line(modules, "peewee_replicas.statements.tokens", "def late(): from . import classifier")
    (circle,) = cycles(module_graph(changed))
    assert {"peewee_replicas.statements.tokens", "peewee_replicas.statements.classifier"} <= set(circle)
