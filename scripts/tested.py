"""Make the table of versions and topologies in docs/tested.md from the reports of a test run.

Usage: tested.py RESULTS_FOLDER [PAGE]      (without PAGE: print the tables)

RESULTS_FOLDER holds a JUnit file for each tox environment, and beside it what `tests/conftest.py` wrote about
the versions the tests ran with.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SERVERS = ("mariadb", "mysql")
TITLES = {"mariadb": "MariaDB", "mysql": "MySQL"}
ABSENT = "–"


@dataclass
class Run:
    """What one environment ran, and with which versions."""

    name: str
    python: str
    packages: dict[str, str]
    servers: dict[str, str]
    passed: dict[str, int] = field(default_factory=dict)
    """How many tests of each module passed; the module as ``servers.nodes.test_prober``."""

    def count(self, prefix: str) -> int:
        """Return how many tests passed in the modules whose names begin with this."""
        return sum(number for module, number in self.passed.items() if module.startswith(prefix))


def read(folder: Path) -> list[Run]:
    """Return the runs that left their reports in the folder, the largest first."""
    found = []
    for report in sorted(folder.glob("*.xml")):
        versions = report.with_suffix(".versions.json")
        if versions.exists():
            run = Run(report.stem, **json.loads(versions.read_text()))
            for module in _passed(report):
                run.passed[module] = run.passed.get(module, 0) + 1
            found.append(run)
    return sorted(found, key=lambda run: (-run.count(""), run.name))


def _passed(report: Path) -> Iterator[str]:
    for case in ElementTree.parse(report).iter("testcase"):
        if not {child.tag for child in case} & {"failure", "error", "skipped"}:
            yield case.get("classname", "").removeprefix("tests.")


def versions_table(runs: Iterable[Run]) -> str:
    """Return the table of what ran with which versions; the reports say which packages count."""
    runs = list(runs)
    names = list(dict.fromkeys(name for run in runs for name in run.packages))
    head = ("Python", *names, *TITLES.values(), "unit tests", "tests on servers")
    rows: dict[tuple[str, ...], list[int]] = {}
    for run in runs:
        unit, on_servers = run.count("unit."), run.count("servers.")
        if not unit and not on_servers:
            continue  # the documentation's own environment
        servers = (run.servers.get(name, ABSENT) if on_servers else ABSENT for name in SERVERS)
        packages = (run.packages.get(name, ABSENT) for name in names)
        counts = rows.setdefault((run.python, *packages, *servers), [0, 0])
        counts[0] += unit
        counts[1] += on_servers
    return _table(head, [(*versions, *map(number, counts)) for versions, counts in rows.items()])


def topologies_table(runs: Iterable[Run], topologies: dict[str, str]) -> str:
    """Return the table of how many tests passed on each topology, which a module's name stands for."""
    counted = {
        title: sum(run.count(f"servers.{module}") for run in runs) for module, title in topologies.items()
    }
    return _table(("topology", "tests"), [(title, number(count)) for title, count in counted.items()])


def number(count: int) -> str:
    """Return a number as the tables write it."""
    return f"{count:,}" if count else ABSENT


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill_in(page: str, tables: dict[str, str]) -> str:
    """Return the page with each table between its two markers.

    Raises:
        ValueError: the page has no such markers.
    """
    for name, table in tables.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page, count = marked.subn(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"the page needs the markers <!-- {name} --> and <!-- end --> once")
    return page


TOPOLOGIES = {
    "consistency.test_galera": "Galera, three members",
    "aio.test_galera": "Galera, three members, under asyncio",
    "connections.test_mysql_router": "MySQL Router, with and without connection sharing",
    "nodes.test_haproxy": "HAProxy in front of the replicas and of the primary",
    "nodes.test_group_replication": "MySQL group replication, one primary",
    "consistency.test_several_domains": "several GTID domains",
    "nodes.test_whom_replicas_follow": "chained replicas, those of several sources or of another primary",
    "consistency.test_without_gtids": "servers without GTIDs",
    "consistency.test_failover_that_loses_writes": "failover that loses writes",
    "execution.test_writes_failover": "failover behind one address",
    "nodes.test_hosted_set_ups": "settings of Amazon RDS and Aurora, semi-synchronous replicas",
    "nodes.test_names_that_change": "a DNS name of several replicas",
}
"""What a set-up is called, by the module of its tests."""


def main(folder: Path, page: Path | None) -> int:
    runs = read(folder)
    if not runs:
        print(f"no reports in {folder}", file=sys.stderr)
        return 1
    tables = {"versions": versions_table(runs), "topologies": topologies_table(runs, TOPOLOGIES)}
    if page is None:
        print("\n\n".join(tables.values()))
    else:
        page.write_text(fill_in(page.read_text(), tables))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
