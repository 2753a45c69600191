"""The callables that ask the primary, over the wire: what they send, and what they make of answers.

The members are the four such functions of `peewee_replicas.discover`. A scripted server gives the answers:
those of Aurora have the form that its documentation shows, because no Aurora was at hand. Real servers answer
the other three in `tests/servers/nodes`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.peewees import WITHOUT_ASYNCIO
from support.scripted_server import (
    Answer,
    ScriptedServer,
    column,
    error,
    length,
    ok,
    packets,
    row,
    silence,
)
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.discover import aurora, galera, group_replication, replicas_of_primary

FORMS: list[Any] = [ReplicatedDatabase, PooledReplicatedDatabase]
if not WITHOUT_ASYNCIO:
    from peewee_replicas.aio import AsyncReplicatedDatabase

    FORMS.append(AsyncReplicatedDatabase)

DOMAIN = "abc.eu-west-1.rds.amazonaws.com"


def table(names: list[str], *rows: list[str]) -> bytes:
    """A whole result with the names of its columns."""
    described = [length(len(names)), *(column(name.encode()) for name in names)]
    return packets(*described, *(row(*(each.encode() for each in cells)) for cells in rows), ok(header=0xFE))


STATUS = table(
    ["Variable_name", "Value"],
    ["wsrep_incoming_addresses", "10.0.0.1:3306,10.0.0.2:3306"],
    ["wsrep_local_index", "0"],
    ["wsrep_cluster_status", "Primary"],
)
REPLICAS = table(["Server_id", "Host", "Port", "Master_id"], ["2", "r1", "3307", "1"])
MEMBERS = table(
    ["MEMBER_ID", "MEMBER_HOST", "MEMBER_PORT", "MEMBER_STATE", "MEMBER_ROLE", "me"],
    ["a", "m1", "3306", "ONLINE", "PRIMARY", "a"],
    ["b", "m2", "3306", "ONLINE", "SECONDARY", "a"],
)
HOSTS = table(
    ["SERVER_ID", "SESSION_ID"], ["app-1", "MASTER_SESSION_ID"], ["app-2", "b3a4e2f0-6b8e-11ee-9c6a-0a1b2c"]
)
UNKNOWN = error(1064, "syntax")

ASKED: dict[str, tuple[Callable[[], Any], dict[str, Answer], list[dict[str, Any]]]] = {
    "replicas_of_primary": (replicas_of_primary, {"SHOW REPLICAS": REPLICAS}, [{"host": "r1", "port": 3307}]),
    "replicas_of_primary, by the older word": (
        replicas_of_primary,
        {"SHOW REPLICAS": UNKNOWN, "SHOW SLAVE HOSTS": REPLICAS},
        [{"host": "r1", "port": 3307}],
    ),
    "group_replication": (group_replication, {"SELECT MEMBER_ID": MEMBERS}, [{"host": "m2", "port": 3306}]),
    "galera": (galera, {"SHOW GLOBAL STATUS": STATUS}, [{"host": "10.0.0.2", "port": 3306}]),
    "aurora": (
        lambda: aurora(DOMAIN), {"SELECT SERVER_ID": HOSTS}, [{"host": f"app-2.{DOMAIN}", "name": "app-2"}],
    ),
}  # fmt: skip


class Polite(ScriptedServer):
    """Counts the clients that say goodbye before they go."""

    goodbyes = 0

    def _answer(self, client: socket.socket, command: bytes) -> None:
        self.goodbyes += command[:1] == b"\x01"  # COM_QUIT
        super()._answer(client, command)


@contextmanager
def asked(form: Any, answers: dict[str, Answer]) -> Iterator[tuple[Any, Polite]]:
    with Polite(answers) as server:
        yield form(probe_interval=None, **server.parameters), server


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ASKED)
def test_the_primary_is_asked_over_a_connection_that_is_closed(name: str, form: Any) -> None:
    make, answers, wanted = ASKED[name]
    with asked(form, answers) as (database, server):
        assert make()(database) == wanted
        assert server.clients == 1
        until(lambda: server.goodbyes == 1)
        assert all(any(each.startswith(text) for each in server.statements) for text in answers)


REFUSED: dict[str, tuple[Answer, str]] = {
    "a missing privilege": (error(1227, "denied"), "1227"),
    "no such table": (error(1109, "unknown table"), "1109"),
    "no word of it": (UNKNOWN, "1064"),
    "silence": (silence, "timed out|2013"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_none_is_an_error(name: str) -> None:
    answer, words = REFUSED[name]
    seconds = 0.3 if answer is silence else 60.0
    answers: dict[str, Answer] = {"SELECT": answer, "SHOW": answer}
    for make in (replicas_of_primary, group_replication, galera, aurora):
        with asked(ReplicatedDatabase, answers) as (database, _), pytest.raises(Exception, match=words):
            make(seconds=seconds)(database)


def test_a_name_of_ones_own_for_aurora_needs_the_domain() -> None:
    answers: dict[str, Answer] = {"SELECT SERVER_ID": HOSTS}
    with (
        asked(ReplicatedDatabase, answers) as (database, _),
        pytest.raises(LookupError, match="give aurora"),
    ):
        aurora()(database)
