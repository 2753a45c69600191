"""The table of topologies: each row names tests that exist, the page shows it, and answers are recognized.

The members are the rows of `cli.topologies.TOPOLOGIES`. Those that a node's answers can show are each given
here with such answers; the last test compares this list with the table.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from support.node_answers import answers, told, with_variables

from peewee_replicas.cli import topologies
from peewee_replicas.cli.answers import NodeAnswers, Survey
from peewee_replicas.cli.topologies import TOPOLOGIES
from peewee_replicas.nodes.fitness import Fitness
from peewee_replicas.servers import mariadb

ROOT = Path(__file__).parents[3]


def test_each_row_names_tests_that_exist_and_says_its_limit() -> None:
    for row in TOPOLOGIES:
        assert bool(row.tests) == (row.result != "not run"), row.name
        assert row.words or row.result in ("works", "not run"), row.name
        for test in row.tests:
            path, _, name = test.partition("::")
            tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
            assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, test


def test_the_page_has_the_table() -> None:
    text = (ROOT / "docs/topologies.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- topologies -->\n\n(.*?)\n\n<!-- end -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == topologies.page_table(), f"put this there:\n{topologies.page_table()}"


def channels(*rows: dict[str, Any]) -> Any:
    return lambda node: node._replace(channels=rows)


SHOWN: dict[str, tuple[str, str, Any]] = {
    "delayed replicas": ("mysql", "r", channels({"SQL_Delay": 3600})),
    "replicas of several sources": ("mysql", "r", channels({}, {})),
    "replicas of another primary": (
        "mysql", "r", lambda node: node._replace(fitness=Fitness("unfit", "x", "detached", None)),
    ),
    "several GTID domains": (
        "mariadb", "primary", lambda node: told(node, sample=mariadb.position("0-1-5,1-1-3")),
    ),
    "MySQL group replication, one primary": ("mysql", "r", lambda node: told(node, group_role="SECONDARY")),
    "Galera": ("mariadb", "r", lambda node: told(node, galera=True)),
    "servers without GTIDs": ("mysql", "primary", lambda node: with_variables(node, gtid_mode="OFF")),
    "replicas without a binary log, as on Amazon RDS without backups": (
        "mariadb", "r", lambda node: with_variables(node, log_bin="OFF"),
    ),
    "readers of Amazon Aurora (`innodb_read_only`)": (
        "mysql", "r", lambda node: told(node, variables={"innodb_read_only": "ON"}),
    ),
    "MySQL Router with connection sharing": ("mysql", "primary", lambda node: node._replace(tracks=False)),
}  # fmt: skip


def survey(server: str, name: str, change: Any) -> Survey:
    def changed(node: NodeAnswers) -> NodeAnswers:
        made: NodeAnswers = change(node) if node.name == name else node
        return made

    return Survey(changed(answers(server, primary=True)), (changed(answers(server)),))


@pytest.mark.parametrize("name", SHOWN)
def test_answers_that_show_a_topology_are_recognized(name: str) -> None:
    rows = topologies.rows(survey(*SHOWN[name]))
    assert [row["topology"] for row in rows if row["here"]] == [name]
    (row,) = (row for row in rows if row["here"])
    assert topologies.cells(row)[1] == "yes"


@pytest.mark.parametrize("server", ["mysql", "mariadb"])
def test_a_usual_set_up_shows_none(server: str) -> None:
    rows = topologies.rows(survey(server, "", None))
    assert not any(row["here"] for row in rows)
    assert {topologies.cells(row)[1] for row in rows} == {"no", "?"}


def test_a_node_that_did_not_answer_shows_none() -> None:
    name, change = SHOWN["Galera"][1:]
    found = survey("mariadb", name, lambda node: change(node)._replace(error="gone"))
    assert not any(row["here"] for row in topologies.rows(found))


def test_every_topology_that_answers_show_is_tested_here() -> None:
    assert set(SHOWN) == {row.name for row in TOPOLOGIES if row.shown_by is not None}
