"""The questions that a probe asks of a node, and the facts that the answers tell. Pure.

The caller sends the questions and brings the answers. What differs between servers comes from the module of
`servers` that knows this one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ..positions import Position
from ..servers.identity import ServerIdentity, identity
from ..servers.protocols import Record, ServerDialect

# `SHOW VARIABLES` cuts values short, on MySQL at 1024 characters; longer ones are asked for by themselves.
_MAY_BE_CUT = 1000
_SYNTAX_ERROR = 1064
_SOURCE = ("master_host", "master_port", "master_server_id", "master_uuid")


class Answers(NamedTuple):
    """What one node has answered.

    Attributes:
        variables: its settings, by name.
        channels: its replication channels; None where it does not tell this user.
        heartbeats: the rows of the heartbeat table; None: not asked, or not told.
    """

    variables: Mapping[str, str]
    channels: Sequence[Record] | None
    heartbeats: Sequence[Record] | None = None


class Source(NamedTuple):
    """Whom a channel follows, in its server's words.

    Attributes:
        host, port: as the replica reaches it.
        server_id: ``""`` or ``"0"`` until it has been connected.
        uuid: of MySQL alone; ``""`` where it is not told.
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
        receives, applies: whether the two halves are at work; receiving is, while it tries to connect.
        behind: seconds, against its own source, whoever that is; None where the server cannot tell.
        error: what the server says has stopped it, or ``""``.
        source: whom it follows.
        name: what it is called; ``""`` for the only one, mostly.
    """

    receives: bool
    applies: bool
    behind: float | None
    error: str
    source: Source
    name: str = ""


class Facts(NamedTuple):
    """What the answers of one node say.

    Attributes:
        server: which server it is.
        read_only, offline: whether these settings of the server are on.
        member: whether it belongs to a cluster that replicates by other means than channels.
        position: what it has reached as a replica; None where the server keeps no GTIDs.
        sample: what it has as a primary; None likewise.
        channels: None where they are not told.
        beats: the newest heartbeat by server id, or None.
        variables: the answer to the dialect's `PROBE`.
        dialect: what it speaks.
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


class Questionnaire:
    """Which questions are worth asking on one connection; learned from its first answers.

    Attributes:
        spelling: which of the server's statements for its channels is used; beyond the last: none is.
        heartbeat_table: its name, or None.
        complaint: why something is not asked any more, in words, or ``""``.
    """

    def __init__(self, heartbeat_table: str | None) -> None:
        self.spelling = 0
        self.heartbeat_table = heartbeat_table
        self.complaint = ""


def interview(
    dialect: ServerDialect, questionnaire: Questionnaire, goal: Position | None, seconds: float
) -> Generator[str, list[Record] | Exception, Answers]:
    """The questions of one probe, one after the other; each answer is sent in, rows or an exception.

    Parameters:
        goal: a position that the node gets some time to reach before it is asked; None: no time.
        seconds: how much time.

    Raises:
        Exception: the server refuses even the first question.
    """
    # Asked first, so that a replica that keeps up has reached it and its lag is seen as none.
    if goal is not None:
        yield dialect.settle(goal.text(), seconds)
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
        # Another spelling helps only if the server did not know this one. A missing right stays missing.
        unknown = answer.args[:1] == (_SYNTAX_ERROR,)
        questionnaire.spelling = questionnaire.spelling + 1 if unknown else len(dialect.CHANNELS)
    heartbeats = None
    if questionnaire.heartbeat_table is not None:
        answer = yield f"SELECT server_id, ts FROM {_quoted(questionnaire.heartbeat_table)}"
        if isinstance(answer, Exception):
            questionnaire.complaint = f"heartbeat_table cannot be read ({answer})"
        else:
            heartbeats = answer
    return Answers(variables, channels, heartbeats)


def _quoted(table: str) -> str:
    return ".".join(f"`{part}`" for part in table.split("."))


def facts(answers: Answers, dialect: ServerDialect) -> Facts:
    """What the answers say."""
    found = answers.variables
    has_gtids = found.get("gtid_mode", "ON") == "ON"
    channels = answers.channels
    return Facts(
        server=identity(found),
        read_only=found.get("read_only", "OFF") not in ("OFF", "0"),
        offline=found.get("offline_mode", "OFF") == "ON",
        member=found.get("wsrep_on") == "ON"
        or bool(found.get("group_replication_group_name"))
        or found.get("innodb_read_only") == "ON",
        position=dialect.position(found.get(dialect.REACHED, "")) if has_gtids else None,
        sample=dialect.sampled(found),
        channels=None if channels is None else tuple(channel(row) for row in channels),
        beats=None if answers.heartbeats is None else heartbeats(answers.heartbeats),
        variables=found,
        dialect=dialect,
    )


def channel(row: Record) -> Channel:
    """One row of ``SHOW REPLICA STATUS``, in the old words or the new."""
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
    """The newest heartbeat by server id, of a table as pt-heartbeat keeps it; others' rows are left out."""
    found: dict[str, datetime] = {}
    for row in rows:
        when = row["ts"]
        if not isinstance(when, datetime):
            try:
                when = datetime.fromisoformat(str(when))
            except ValueError:
                continue
        # Heartbeats are compared with each other alone, so the zone they were written in does not matter.
        when = when.replace(tzinfo=None)
        server = str(row["server_id"])
        found[server] = max(when, found.get(server, when))
    return found
