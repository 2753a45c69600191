"""Every log record has a stable name, a node and a cause, and good news is no warning.

The members of the kind are all calls that write to the logger ``peewee.replicas``. They were found by reading
the package's source for ``getLogger``, ``logger.`` and ``logging.``; the first test finds them in the same
way, so that none can be added beside `log_event`.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.log import EVENTS, EventName, log_event

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "peewee_replicas"
# The command shows its findings itself, so it turns the logger off meanwhile.
MAY_USE_LOGGING = {"log.py", "cli/command.py"}
GOOD_NEWS = {"node_restored", "node_fit", "node_probed_again"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def calls() -> Iterator[tuple[str, ast.Call]]:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "log_event":
                yield name, node


def test_only_one_module_writes_to_the_logger() -> None:
    importers = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(alias.name == "logging" for alias in node.names)
    }
    assert importers == MAY_USE_LOGGING


def test_each_event_is_used_and_each_name_is_known() -> None:
    source = "".join((PACKAGE / name).read_text(encoding="utf-8") for name, _ in trees() if name != "log.py")
    assert [event for event in EVENTS if f'"{event}"' not in source] == []
    used = {node.args[0].value for _, node in calls() if isinstance(node.args[0], ast.Constant)}
    assert used <= set(EVENTS) == set(get_args(EventName))


def test_each_record_names_its_node_or_its_cause() -> None:
    for name, node in calls():
        given = {keyword.arg for keyword in node.keywords}
        # An exception in a hook has a traceback, which says both.
        assert given & {"node", "cause", "exc_info"}, f"{name}:{node.lineno}"


def test_good_news_is_info_and_bad_news_is_not() -> None:
    assert {event for event in GOOD_NEWS if EVENTS[event].level != logging.INFO} == set()  # type: ignore[index]


def test_the_page_has_a_row_for_each_event_with_its_level_and_meaning() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    section = page.partition("## Log records")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section, re.MULTILINE)
    wanted = [(name, logging.getLevelName(level), words) for name, (level, words) in EVENTS.items()]
    assert rows == wanted


@pytest.mark.parametrize("event", EVENTS)
def test_a_record_has_its_name_node_cause_level_and_place(
    event: EventName, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "peewee.replicas"):
        log_event(event, "%s: %s", "replica-1", "why", node="replica-1", cause="why")
    record: Any
    (record,) = caplog.records
    assert (record.name, record.event, record.node, record.cause) == (
        "peewee.replicas", event, "replica-1", "why",
    )  # fmt: skip
    assert (record.levelno, record.getMessage()) == (EVENTS[event].level, "replica-1: why")
    assert record.filename == Path(__file__).name


def test_a_node_that_leaves_and_returns(caplog: pytest.LogCaptureFixture) -> None:
    db = ReplicatedDatabase("app", host="127.0.0.1", port=1, replicas=["replica.db"], probe_interval=None)
    with caplog.at_level(logging.INFO, "peewee.replicas"):
        db.replicas[0].eject("disk full")
        db.replicas[0].restore()
    records: list[Any] = caplog.records
    found = [(record.event, record.node, record.cause, record.levelname) for record in records]
    name = db.replicas[0].name
    assert found == [("node_ejected", name, "disk full", "WARNING"), ("node_restored", name, "", "INFO")]
