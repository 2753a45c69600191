"""The questions that a probe asks a node, and the facts in its answers. No I/O, no clock.

The caller sends the questions and passes in the answers. The `ServerDialect` supplies what differs between
servers.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ..positions import Position
from ..servers.identity import ServerIdentity, identity
from ..servers.protocols import Record, ServerDialect
from ..servers.refusals import refusal

# `SHOW VARIABLES` truncates values, on MySQL at 1024 characters; longer ones are queried separately.
_MAY_BE_CUT = 1000
_SYNTAX_ERROR = 1064
_SOURCE = ("master_host", "master_port", "master_server_id", "master_uuid")


class Answers(NamedTuple):
    """The answers of one node.

    Attributes:
        variables: its settings, by name.
        channels: its replication channels; None if this user may not see them.
        heartbeats: the rows of the heartbeat table; None: not asked for, or refused.
        group: the node's row among the members of its replication group; None: not asked for, or refused.
    """

    variables: Mapping[str, str]
    channels: Sequence[Record] | None
    heartbeats: Sequence[Record] | None = None
    group: Sequence[Record] | None = None


class Source(NamedTuple):
    """The source that a channel follows, as its server reports it.

    Attributes:
        host, port: as the replica reaches it.
        server_id: ``""`` or ``"0"`` until the channel has connected.
        uuid: MySQL only; ``""`` if not reported.
    """

    host: str
    port: str
    server_id: str = ""
    uuid: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Channel(NamedTuple):
    """One replication channel.

    Attributes:
        receives, applies: whether each half runs; receiving counts as running while it tries to connect.
        behind: its lag in seconds against its own source; None if the server does not know.
        error: the error that stopped it, as the server reports it, or ``""``.
        source: the server it follows.
        name: its name; usually ``""`` if it is the only channel.
    """

    receives: bool
    applies: bool
    behind: float | None
    error: str
    source: Source
    name: str = ""


class Facts(NamedTuple):
    """The facts in the answers of one node.

    Attributes:
        server: which server it is.
        read_only, offline: whether these settings of the server are on.
        member: whether it belongs to a cluster that replicates by other means than channels.
        group_state, group_role: as MySQL's group replication reports them, such as ``"ONLINE"`` and
            ``"SECONDARY"``; ``""`` if this user may not see them.
        galera: whether that is a Galera cluster, whose members' positions are their own.
        position: its position as a replica; None if the server keeps no GTIDs.
        sample: its position as a primary; None if the server keeps no GTIDs.
        channels: its replication channels; None if this user may not see them.
        beats: the newest heartbeat by server id, or None.
        variables: the answer to the dialect's `PROBE`.
        dialect: the server's dialect.
    """

    server: ServerIdentity
    read_only: bool
    offline: bool
    member: bool
    position: Position | None
    sample: Position | None
    channels: tuple[Channel, ...] | None
    beats: Mapping[str, datetime] | None
    variables: Mapping[str, str]
    dialect: ServerDialect
    galera: bool = False
    group_state: str = ""
    group_role: str = ""


class Questionnaire:
    """Remembers from the first answers which questions are worth asking on one connection.

    Attributes:
        waits: whether to wait for the goal of a probe; the server may not know how.
        sees_group: whether to ask for the node's state in its replication group; the user may have no right.
        spelling: index of the statement in use to list the channels; past the end: none works.
        heartbeat_table: its name, or None.
        complaint: why a question is no longer asked, in words, or ``""``.
    """

    def __init__(self, heartbeat_table: str | None) -> None:
        self.waits = self.sees_group = True
        self.spelling = 0
        self.heartbeat_table = heartbeat_table
        self.complaint = ""


def interview(
    dialect: ServerDialect, questionnaire: Questionnaire, goal: Position | None, seconds: float
) -> Generator[str, list[Record] | Exception, Answers]:
    """Yield the questions of one probe. The caller sends in each answer: rows or an exception.

    Parameters:
        goal: a position to wait for before asking, if the node reaches it in time; None: do not wait.
        seconds: how long to wait for `goal`.

    Raises:
        Exception: the server refuses even the first question.
    """
    # Wait first, so that a replica that keeps up reaches the goal and shows no lag.
    if goal is not None and questionnaire.waits:
        answer = yield dialect.settle(goal.text(), seconds)
        questionnaire.waits = not (isinstance(answer, Exception) and refusal(answer))
    answer = yield dialect.PROBE
    if isinstance(answer, Exception):
        raise answer
    variables = {row["Variable_name"]: row["Value"] for row in answer}
    for name in dialect.LONG_VALUES:
        if len(variables.get(name, "")) >= _MAY_BE_CUT:
            answer = yield f"SELECT @@GLOBAL.{name} AS value"
            if isinstance(answer, Exception):
                raise answer
            variables[name] = answer[0]["value"]
    channels = None
    while questionnaire.spelling < len(dialect.CHANNELS):
        answer = yield dialect.CHANNELS[questionnaire.spelling]
        if not isinstance(answer, Exception):
            channels = answer
            break
        # Another spelling helps only if the server did not know this one, not if the user lacks a right.
        unknown = answer.args[:1] == (_SYNTAX_ERROR,)
        questionnaire.spelling = questionnaire.spelling + 1 if unknown else len(dialect.CHANNELS)
    group = None
    if dialect.GROUP_MEMBER and questionnaire.sees_group and variables.get("group_replication_group_name"):
        answer = yield dialect.GROUP_MEMBER
        if isinstance(answer, Exception):
            questionnaire.sees_group = not refusal(answer)
        else:
            group = answer
    heartbeats = None
    if questionnaire.heartbeat_table is not None:
        answer = yield f"SELECT server_id, ts FROM {_quoted(questionnaire.heartbeat_table)}"
        if isinstance(answer, Exception):
            questionnaire.complaint = f"heartbeat_table cannot be read ({answer})"
        else:
            heartbeats = answer
    return Answers(variables, channels, heartbeats, group)


def _quoted(table: str) -> str:
    return ".".join(f"`{part}`" for part in table.split("."))


def facts(answers: Answers, dialect: ServerDialect) -> Facts:
    """Return the facts in the answers."""
    found = answers.variables
    has_gtids = found.get("gtid_mode", "ON") == "ON"
    channels = answers.channels
    galera = found.get("wsrep_on") == "ON"
    group_state, group_role = "", ""
    if answers.group is not None:
        row = answers.group[0] if answers.group else {"state": "OFFLINE", "role": ""}
        group_state, group_role = str(row["state"]), str(row["role"])
    # A server that is configured for a group and has not joined it may be a replica like any other.
    in_group = bool(found.get("group_replication_group_name")) and not (group_state == "OFFLINE" and channels)
    return Facts(
        server=identity(found),
        read_only=found.get("read_only", "OFF") not in ("OFF", "0"),
        offline=found.get("offline_mode", "OFF") == "ON",
        member=galera or in_group or found.get("innodb_read_only") == "ON",
        position=dialect.position(found.get(dialect.REACHED, "")) if has_gtids and not galera else None,
        sample=dialect.sampled(found),
        channels=None if channels is None else tuple(channel(row) for row in channels),
        beats=None if answers.heartbeats is None else heartbeats(answers.heartbeats),
        variables=found,
        dialect=dialect,
        galera=galera,
        group_state=group_state,
        group_role=group_role,
    )


def channel(row: Record) -> Channel:
    """Read one row of ``SHOW REPLICA STATUS``, with old or new column names."""
    words = {name.lower().replace("slave", "replica").replace("source", "master"): row[name] for name in row}
    behind = words.get("seconds_behind_master")
    errors = (words.get("last_io_error"), words.get("last_sql_error"))
    return Channel(
        receives=words.get("replica_io_running") != "No",
        applies=words.get("replica_sql_running") != "No",
        behind=None if behind is None else float(behind),
        error="; ".join(str(error) for error in errors if error),
        source=Source(*(str(words.get(name) or "") for name in _SOURCE)),
        name=str(words.get("channel_name") or words.get("connection_name") or ""),
    )


def heartbeats(rows: Sequence[Record]) -> dict[str, datetime]:
    """Return the newest heartbeat by server id, from pt-heartbeat's table; skip rows in another form."""
    found: dict[str, datetime] = {}
    for row in rows:
        when = row["ts"]
        if not isinstance(when, datetime):
            try:
                when = datetime.fromisoformat(str(when))
            except ValueError:
                continue
        # Heartbeats are only compared with each other, so their time zone does not matter.
        when = when.replace(tzinfo=None)
        server = str(row["server_id"])
        found[server] = max(when, found.get(server, when))
    return found
