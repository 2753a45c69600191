"""Find replicas by asking the servers of the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..connections.parts import Parts
from ..databases.routed_members import members_of
from ..nodes.node import Node
from ..servers.protocols import ServerConnection
from .answers import (
    Found,
    Row,
    aurora_domain,
    aurora_instances,
    galera_members,
    group_members,
    in_lower_case,
    reported_replicas,
)

SECONDS = 5.0
"""The usual time limit for each step of connecting and asking."""

_SYNTAX = 1064  # ER_PARSE_ERROR
_REPLICAS = ("SHOW REPLICAS", "SHOW SLAVE HOSTS")  # MariaDB and MySQL before 8.0.22 know the second
_GROUP = (
    "SELECT MEMBER_ID, MEMBER_HOST, MEMBER_PORT, MEMBER_STATE, MEMBER_ROLE, @@server_uuid AS me "
    "FROM performance_schema.replication_group_members",
)
_GALERA = ("SHOW GLOBAL STATUS LIKE 'wsrep\\_%'",)
# An instance that has not reported for five minutes is gone.
_AURORA = (
    "SELECT SERVER_ID, SESSION_ID FROM information_schema.replica_host_status "
    "WHERE SESSION_ID = 'MASTER_SESSION_ID' OR LAST_UPDATE_TIMESTAMP >= NOW() - INTERVAL 300 SECOND",
)


class Discover(Protocol):
    """A callable for the argument ``replicas`` that is given the database."""

    def __call__(self, database: object, /) -> Found: ...


def replicas_of_primary(*, seconds: float = SECONDS) -> Discover:
    """Return a callable that asks the primary which replicas are connected to it.

    Replicas that do not set ``report_host`` are not found. The user needs the privilege ``REPLICATION SLAVE``
    on MySQL, ``REPLICATION MASTER ADMIN`` on MariaDB.

    Parameters:
        seconds: time limit for each step.
    """
    return _asking_primary(_REPLICAS, seconds, lambda rows, _host: reported_replicas(rows))


def group_replication(*, seconds: float = SECONDS) -> Discover:
    """Return a callable that finds the members of a MySQL replication group that are ``ONLINE``.

    The primary is asked. The member that takes the writes is left out; where all do, the primary. The user
    needs ``SELECT`` on ``performance_schema.replication_group_members``.

    Parameters:
        seconds: time limit for each step.
    """
    return _asking_primary(_GROUP, seconds, lambda rows, _host: group_members(rows))


def galera(*, seconds: float = SECONDS) -> Discover:
    """Return a callable that finds the other members of the primary's Galera cluster.

    The primary is asked, and left out. Arbitrators are left out too.

    Parameters:
        seconds: time limit for each step.
    """
    return _asking_primary(_GALERA, seconds, lambda rows, _host: galera_members(rows))


def aurora(domain: str | None = None, *, seconds: float = SECONDS) -> Discover:
    """Return a callable that finds the readers of an Aurora cluster.

    The primary is asked. This was tested against answers in the documented form, not against Aurora.

    Parameters:
        domain: what follows the name of an instance in its address, such as
            ``abc.eu-west-1.rds.amazonaws.com``. None: it is taken from the primary's host.
        seconds: time limit for each step.
    """
    return _asking_primary(
        _AURORA, seconds, lambda rows, host: aurora_instances(rows, domain or aurora_domain(host))
    )


def _asking_primary(
    questions: Sequence[str], seconds: float, read: Callable[[Sequence[Row], str], Found]
) -> Discover:
    def ask(database: object, /) -> Found:
        parts = members_of(database).parts
        primary = parts.cluster.reader
        return read(_ask(parts, primary, questions, seconds), primary.handle.host or "")

    return ask


def _ask(parts: Parts, node: Node, questions: Sequence[str], seconds: float) -> list[Row]:
    """Ask one server over a connection of its own; the next question if it does not know the first."""
    opened: list[ServerConnection] = []
    try:
        conn = parts.replicas.open_probe(node, seconds, opened.append)
        answer: Sequence[object] | Exception = ()
        for question in questions:
            with conn.within(seconds):
                conn.start_query(question)
                answer = conn.finish_query()
            if not isinstance(answer, Exception):
                return in_lower_case(answer)
            if answer.args[:1] != (_SYNTAX,):
                break
        assert isinstance(answer, Exception)
        raise answer
    finally:
        for each in opened:
            if each.open:
                each.close()
