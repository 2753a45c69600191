"""``pwreplicas status``: each node's state, role, source, lag, position, connections and version.

Makes decisions only: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peewee_replicas.nodes.fitness import primary_remark
from peewee_replicas.nodes.health import Health
from peewee_replicas.nodes.tags import tags_in_words

from .answers import NodeAnswers, Survey

COLUMNS = ("node", "address", "state", "role", "follows", "lag", "position", "connections", "version")
_TAGS = "tags"
FILE_COLUMNS = ("node", "address", "state", "role")


def columns(found: list[dict[str, object]]) -> tuple[str, ...]:
    """Return the table's columns for these rows; without tags, no column shows them."""
    if not any(row[_TAGS] for row in found):
        return COLUMNS
    address = COLUMNS.index("address") + 1
    return (*COLUMNS[:address], _TAGS, *COLUMNS[address:])


def rows(found: Survey) -> list[dict[str, object]]:
    """Return one row for each node, the primary first, with the names of `COLUMNS` and more.

    Each row has also ``tags``, ``ok``, ``cause``, ``remark`` and ``gtid``, the position itself.
    """
    return [_row(node, found.primary) for node in found.nodes]


def _row(node: NodeAnswers, primary: NodeAnswers) -> dict[str, object]:
    told, fitness = node.facts, node.fitness
    if told is None or fitness is None:
        return _shown(node, "down", None, node.error, ok=False)
    state, cause = fitness.state, fitness.cause
    writes_refused = node.is_primary and told.read_only and not told.member
    if writes_refused:
        cause = primary_remark(told)
    row = _shown(node, "read-only" if writes_refused else state, fitness.role, cause, ok=not cause)
    reached = told.sample if node.is_primary else told.position
    row.update(
        follows=", ".join(dict.fromkeys(str(channel.source) for channel in told.channels or ())) or None,
        follows_known=told.channels is not None,
        lag=fitness.lag,
        position=_position(node, primary),
        gtid=None if reached is None else reached.text(),
        remark="" if writes_refused else fitness.remark,
    )
    return row


def _shown(node: NodeAnswers, state: str, role: str | None, cause: str, *, ok: bool) -> dict[str, object]:
    connections = node.status.get("threads_connected")
    return {
        "node": node.name,
        "address": node.address,
        _TAGS: dict(node.tags),
        "state": state,
        "role": role,
        "follows": None,
        "follows_known": False,
        "lag": None,
        "position": "unknown",
        "gtid": None,
        "connections": None if connections is None else int(connections),
        "version": node.version or None,
        "ok": ok,
        "cause": cause,
        "remark": "",
    }


def _position(node: NodeAnswers, primary: NodeAnswers) -> str:
    """Return how the node's position compares with the primary's."""
    if node.is_primary:
        return "primary"
    mine = None if node.facts is None else node.facts.position
    wanted = None if primary.facts is None else primary.facts.sample
    if mine is None or wanted is None or type(mine) is not type(wanted):
        return "unknown"
    return "caught up" if mine.covers(wanted) else "behind"


def file_rows(health: Health, path: str) -> list[dict[str, object]]:
    """Return the rows of a database in a file, whose readers are never behind."""
    writer: dict[str, object] = {
        "node": "primary",
        "address": path,
        _TAGS: {},
        "state": "up",
        "role": "primary",
        "ok": health.writes,
    }
    readers: list[dict[str, object]] = [
        {
            "node": node.name,
            "address": node.address,
            _TAGS: {},
            "state": node.state,
            "role": node.role,
            "ok": node.usable,
        }
        for node in health.nodes
    ]
    return [{**row, "cause": "", "remark": ""} for row in (writer, *readers)]


def cells(row: dict[str, object], columns: Sequence[str]) -> list[str]:
    """Return a row as the table shows it."""
    shown = []
    for column in columns:
        value = row[column]
        if column == "follows" and value is None:
            shown.append("-" if row["follows_known"] else "?")
        elif value is None:
            shown.append("?")
        elif isinstance(value, Mapping):
            shown.append(tags_in_words(value))
        else:
            shown.append(f"{value:.1f} s" if column == "lag" else str(value))
    return shown


def notes(found: list[dict[str, object]]) -> list[str]:
    """Return what the table has no room for: why a node gets no reads, and what is odd about others."""
    return [
        f"{row['node']}: {row['cause'] or row['remark']}" for row in found if row["cause"] or row["remark"]
    ]
