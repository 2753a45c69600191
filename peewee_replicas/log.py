"""The log records of the logger ``peewee.replicas``, with names that programs can rely on."""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple, get_args

logger = logging.getLogger("peewee.replicas")

EventName = Literal[
    "node_ejected", "node_restored", "node_lagging", "node_unfit", "node_fit", "node_remark",
    "node_backs_off", "node_cannot_read", "node_lacks_object", "node_refuses_position", "node_in_galera",
    "node_not_probed", "node_probed_again", "read_refused_as_write", "settings_differ",
    "heartbeat_unreadable", "prober_failed", "primary_changed", "primary_moved", "primary_read_only",
    "primary_silent", "primary_position_unknown", "no_gtids", "position_lost", "session_state", "reports_off",
    "report_unreadable", "forked_in_transaction", "override_unused", "bookmark_unusable",
    "bookmark_ignored", "bookmark_unsent", "hook_failed", "question_failed",
    "switched", "members_changed", "discovery_failed", "discovery_works",
]  # fmt: skip


class Meaning(NamedTuple):
    """What a log event is.

    Attributes:
        level: the level of its records.
        words: what has happened, for the documentation.
    """

    level: int
    words: str


_INFO, _WARNING, _DEBUG = logging.INFO, logging.WARNING, logging.DEBUG

EVENTS: dict[EventName, Meaning] = {
    "node_ejected": Meaning(_WARNING, "a node failed, or was ejected by hand, and gets no reads"),
    "node_restored": Meaning(_INFO, "an ejected node works again, or was restored by hand"),
    "node_lagging": Meaning(_WARNING, "a replica is further behind than `max_lag`, and gets no reads"),
    "node_unfit": Meaning(_WARNING, "a node is no replica of the primary now, and gets no reads"),
    "node_fit": Meaning(_INFO, "a node that was lagging or unfit gets reads again"),
    "node_remark": Meaning(_WARNING, "a node's set-up has a fault that does not keep reads away"),
    "node_backs_off": Meaning(_WARNING, "a node gets no new connections for a moment; open ones serve"),
    "node_cannot_read": Meaning(_WARNING, "a read failed on one node and succeeded on another"),
    "node_lacks_object": Meaning(_WARNING, "a replica lacks a table or another object that the primary has"),
    "node_refuses_position": Meaning(_WARNING, "a replica does not tell what it has reached"),
    "node_in_galera": Meaning(_INFO, "a node is a member of a Galera cluster, where each read waits"),
    "node_not_probed": Meaning(_WARNING, "a replica cannot be probed, so its state is not known"),
    "node_probed_again": Meaning(_INFO, "a node answers the prober again"),
    "read_refused_as_write": Meaning(_WARNING, "a replica refused a read as a write; it ran on the primary"),
    "settings_differ": Meaning(_WARNING, "a setting differs between nodes and may change results"),
    "heartbeat_unreadable": Meaning(_WARNING, "the heartbeat table cannot be used"),
    "prober_failed": Meaning(_WARNING, "the prober itself cannot work"),
    "primary_changed": Meaning(_WARNING, "another server answers as the primary, or its role changed"),
    "primary_moved": Meaning(_WARNING, "writes go to another node from now on"),
    "primary_read_only": Meaning(_WARNING, "the primary refused a write because it is read-only"),
    "primary_silent": Meaning(_WARNING, "the primary does not answer the prober"),
    "primary_position_unknown": Meaning(_WARNING, "the primary cannot be asked for its position, or refuses"),
    "no_gtids": Meaning(_WARNING, "the servers keep no GTIDs, so reads stay on the primary after a write"),
    "position_lost": Meaning(_WARNING, "a position was given up because the primary's history lacks it"),
    "session_state": Meaning(_WARNING, "session state keeps the reads of a connection on the primary"),
    "reports_off": Meaning(_WARNING, "a server reports neither positions nor session changes"),
    "report_unreadable": Meaning(_WARNING, "a server's report about the session was malformed"),
    "forked_in_transaction": Meaning(_WARNING, "the process was forked inside a transaction"),
    "override_unused": Meaning(_WARNING, "a method of a subclass's base would never be called"),
    "bookmark_unusable": Meaning(_WARNING, "a job reads on the primary because its bookmark cannot be used"),
    "bookmark_ignored": Meaning(_DEBUG, "a bookmark that came with a request is not valid"),
    "bookmark_unsent": Meaning(_WARNING, "a response carries no exact bookmark: its position is not known"),
    "hook_failed": Meaning(logging.ERROR, "a callable in `route_hooks` or `node_hooks` raised an error"),
    "question_failed": Meaning(_DEBUG, "a question of the library's own was not answered"),
    "switched": Meaning(_WARNING, "the program changed `reads` or `writes`, or the environment sets `reads`"),
    "members_changed": Meaning(_INFO, "the callable given as `replicas` named other nodes"),
    "discovery_failed": Meaning(
        _WARNING, "the callable given as `replicas` failed, does not answer, or named no usable nodes"
    ),
    "discovery_works": Meaning(_INFO, "the callable given as `replicas` names nodes again"),
}
"""Each event of a log record, with its level and its meaning."""

assert set(EVENTS) == set(get_args(EventName))


def log_event(
    event: EventName,
    message: str,
    *values: object,
    node: str = "",
    cause: str = "",
    exc_info: BaseException | bool | None = None,
) -> None:
    """Write a log record.

    Parameters:
        event: its name, a key of `EVENTS`, which also gives the level; `LogRecord.event`.
        message: the text, as for `logging.Logger.log`.
        values: the values of its placeholders.
        node: the node's name, its address if only that is known, or ``""``; `LogRecord.node`.
        cause: why, in words, or ``""``; `LogRecord.cause`.
        exc_info: as for `logging.Logger.log`.
    """
    logger.log(
        EVENTS[event].level,
        message,
        *values,
        exc_info=exc_info,
        extra={"event": event, "node": node, "cause": cause},
        stacklevel=2,
    )
