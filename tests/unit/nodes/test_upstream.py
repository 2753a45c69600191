"""Whom a channel follows, from all that servers tell of it: decided without any server."""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.nodes.interview import Channel, Facts, Source
from peewee_replicas.nodes.upstream import Peer, is_same, same_server, upstream
from peewee_replicas.positions import MySQLPosition
from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.servers.identity import ServerIdentity, in_sql

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
NODE = ServerIdentity("", "9", "elsewhere", "3306")
PRIMARY = ServerIdentity("", "1", "db1", "3306")


@pytest.mark.parametrize(
    ("source", "server", "address", "follower", "same"),
    [
        # A UUID decides, whatever the rest says.
        (Source("x", "1", "7", UUID.upper()), PRIMARY._replace(uuid=UUID), "db1:3306", NODE, True),
        (Source("db1", "3306", "1", OTHER), PRIMARY._replace(uuid=UUID), "db1:3306", NODE, False),
        # So does another server id.
        (Source("db1", "3306", "2"), PRIMARY, "db1:3306", NODE, False),
        # The same id is given in many topologies, so it takes the place too.
        (Source("DB1", "3306", "1"), PRIMARY, "proxy:6033", NODE, True),
        (Source("10.0.0.1", "3307", "1"), PRIMARY, "10.0.0.1:3307", NODE, True),
        (Source("10.0.0.1", "3306", "1"), PRIMARY, "db1:3306", NODE, None),
        # Before it was ever connected no id is known.
        (Source("db1", "3306", "0"), PRIMARY, "db1:3306", NODE, True),
        (Source("db2", "3306", "0"), PRIMARY, "db1:3306", NODE, None),
        (Source("db2", "3306", ""), PRIMARY, "db1:3306", NODE, None),
        # Ports tell servers of one machine apart, and of nothing else.
        (Source("127.0.0.1", "3307", "1"), PRIMARY, "127.0.0.1:3306", NODE._replace(hostname="db1"), False),
        (Source("db1", "3307", "1"), PRIMARY, "db1:3306", NODE._replace(hostname="db1"), False),
        (Source("127.0.0.1", "3307", "1"), PRIMARY, "127.0.0.1:3306", NODE, None),
        (Source("balancer", "3307", "1"), PRIMARY, "balancer:3306", NODE, None),
    ],
)
def test_whether_a_source_is_a_server(
    source: Source, server: ServerIdentity, address: str, follower: ServerIdentity, same: bool | None
) -> None:
    assert is_same(source, server, address, follower) is same


def told(number: int, *sources: str, **changed: Any) -> Facts:
    """What server `number`, at host dbN, answers; each source is another's number."""
    channels = tuple(Channel(True, True, 0.0, "", Source(f"db{n}", "3306", n), name=n) for n in sources)
    facts = Facts(
        server=ServerIdentity("", str(number), f"db{number}", "3306"), read_only=True, offline=False,
        member=False, position=None, sample=None, channels=channels, beats=None, variables={},
        dialect=mariadb,
    )  # fmt: skip
    return facts._replace(**changed)


def peer(number: int, *sources: str, **changed: Any) -> Peer:
    return Peer(f"node {number}", f"db{number}:3306", told(number, *sources, **changed))


TWIN = Peer("node 1", "10.0.0.1:3306", told(1))  # of the primary, at the address that replicas know
AWAY = Peer("node 3", "db3:3306", None)


@pytest.mark.parametrize(
    ("node", "primary", "others", "relation", "channels"),
    [
        (told(2, "1"), peer(1), [], "primary", ["1"]),
        (told(2, "3"), peer(1), [peer(3, "1")], "primary", ["3"]),
        (told(2, "3"), peer(1), [peer(3, "4"), peer(4, "1")], "primary", ["3"]),
        (told(2, "3"), peer(1), [peer(3)], "other", ["3"]),
        (told(2, "3"), peer(1), [peer(3, "4")], "unlisted", ["3"]),
        (told(2, "3"), peer(1), [peer(3, "4"), peer(4)], "other", ["3"]),
        (told(2, "3"), peer(1), [], "unlisted", ["3"]),
        (told(2, "3"), peer(1), [AWAY], "unclear", ["3"]),
        (told(2, "3"), peer(1), [peer(3, channels=None)], "unclear", ["3"]),
        # A ring of two, of which one is the primary, and a ring that it is no part of.
        (told(2, "3"), peer(1, "3"), [peer(3, "1")], "primary", ["3"]),
        (told(2, "3"), peer(1), [peer(3, "4"), peer(4, "3")], "unlisted", ["3"]),
        # `host` is another address of a node that is listed as well.
        (told(2)._replace(channels=(Channel(True, True, 0.0, "", Source("10.0.0.1", "3306", "1")),)),
            Peer("the primary", "name:3306", told(1)), [TWIN], "primary", [""]),
        # `host` leads to a replica: those beside it are no worse.
        (told(2, "5"), peer(1, "5"), [], "primary", ["5"]),
        # Of several channels those that follow the primary count, and no others.
        (told(2, "7", "1"), peer(1), [], "primary", ["1"]),
        (told(2, "7", "3"), peer(1), [peer(3)], "unlisted", ["7"]),
        # Its server id, and another server: no link of this chain.
        (told(2, "1")._replace(channels=(Channel(True, True, 0.0, "", Source("db2", "3307", "1")),),
            server=ServerIdentity("", "2", "db1", "3308")), peer(1), [], "unclear", [""]),
        # Nothing to compare with.
        (told(2, "3"), Peer("the primary", "db1:3306", None), [], "unclear", ["3"]),
        (told(2, "7", "1"), Peer("the primary", "db1:3306", None), [], "unclear", ["1"]),
        (told(2, "3"), peer(1, member=True), [], "unclear", ["3"]),
        (told(2, channels=None), peer(1), [], "unclear", []),
    ],
)  # fmt: skip
def test_where_data_comes_from(
    node: Facts, primary: Peer, others: list[Peer], relation: str, channels: list[str]
) -> None:
    found = upstream(node, primary, others, complete=True)
    assert (found.relation, [channel.name for channel in found.channels]) == (relation, channels)


def test_a_chain_is_not_given_up_before_all_were_asked() -> None:
    assert upstream(told(2, "3"), peer(1), [], complete=False).relation == "unclear"


def test_a_server_with_the_primarys_id_is_no_link_of_a_chain() -> None:
    node = told(2, server=ServerIdentity("", "2", "db1", "3308"))
    stray = Channel(True, True, 0.0, "", Source("127.0.0.1", "3307", "1"))
    assert upstream(node._replace(channels=(stray,)), peer(1), [], complete=True).relation == "other"


def test_one_server_under_two_names() -> None:
    assert same_server(told(2), [peer(3), Peer("twin", "proxy:1", told(2))]) == "twin"
    assert same_server(told(2), [peer(3), AWAY]) == ""
    nobody = told(2, server=ServerIdentity("", "", "", ""))
    assert same_server(nobody, [Peer("twin", "proxy:1", nobody)]) == ""


# What the dialects say


def test_an_identity_is_the_same_text_on_both_sides() -> None:
    assert ServerIdentity("", "1", "h", "3306").text == "1/h/3306"
    assert ServerIdentity(UUID, "1", "h", "3306").text == f"{UUID}/1/h/3306"
    for dialect, expression in ((mysql, in_sql("@@server_uuid")), (mariadb, in_sql())):
        assert expression in dialect.wait("", 1.0)
        assert "@@server_uid" not in dialect.wait("", 1.0) + dialect.PROBE  # many releases lack it


def executed(text: str, **more: str) -> dict[str, str]:
    return {"gtid_mode": "ON", "server_uuid": UUID, "gtid_executed": text, **more}


@pytest.mark.parametrize(
    ("node", "primary", "own", "others"),
    [
        (f"{OTHER}:1-9", f"{OTHER}:1-9", "", ""),
        (f"{OTHER}:1-9,{UUID}:1-2", f"{OTHER}:1-9", f"{UUID}:1-2", ""),
        (f"{OTHER}:1-9,{UUID}:1-9", f"{OTHER}:1-9,{UUID}:2-4:6", f"{UUID}:1:5:7-9", ""),
        (f"{OTHER}:1-12", f"{OTHER}:1-9", "", f"{OTHER}:10-12"),
        (f"{OTHER}:3-4", f"{OTHER}:1-9", "", ""),
    ],
)
def test_what_only_the_node_has_on_mysql(node: str, primary: str, own: str, others: str) -> None:
    assert mysql.unshared(executed(node), executed(primary, server_uuid=OTHER)) == (own, others)


def test_what_the_primary_has_not_finished_is_not_only_the_nodes() -> None:
    primary = executed(f"{OTHER}:1-9", gtid_owned=f"{OTHER}:10#35")
    assert mysql.unshared(executed(f"{OTHER}:1-10"), primary) == ("", "")
    assert mysql.unshared(executed(f"{OTHER}:1-10"), {**primary, "gtid_mode": "OFF"}) == ("", "")


def logged(state: str, applied: str = "", server: str = "2") -> dict[str, str]:
    return {"log_bin": "ON", "gtid_binlog_state": state, "gtid_slave_pos": applied, "server_id": server}


@pytest.mark.parametrize(
    ("node", "primary", "own", "others"),
    [
        (logged("", "0-1-9"), logged("0-1-9", server="1"), "", ""),
        (logged("0-1-9", "0-1-9"), logged("0-1-9", server="1"), "", ""),
        (logged("0-1-9,0-2-11", "0-1-9"), logged("0-1-9", server="1"), "0-2-11", ""),
        (logged("0-1-9", "0-1-12"), logged("0-1-9", server="1"), "", "0-1-12"),
        (logged("", "0-7-9"), logged("0-1-20", server="1"), "", "0-7-9"),
        # Domains in which the primary does not write come from other sources.
        (logged("", "0-1-9,5-7-9"), logged("0-1-9", server="1"), "", ""),
        (logged("", "0-3-9"), logged("0-1-12", "0-3-9", server="1"), "", ""),
    ],
)
def test_what_only_the_node_has_on_mariadb(node: Any, primary: Any, own: str, others: str) -> None:
    assert mariadb.unshared(node, primary) == (own, others)
    assert mariadb.unshared(node, {**primary, "log_bin": "OFF"}) == ("", "")


def test_that_the_primarys_own_writes_have_arrived() -> None:
    primary = executed(f"{UUID}:1-9,{OTHER}:1-3")
    assert mysql.has_all_of(executed(f"{UUID}:1-10,{OTHER}:1-3"), primary)
    assert not mysql.has_all_of(executed(f"{UUID}:1-8,{OTHER}:1-3"), primary)
    # Just promoted, and nothing written yet: that a node has everything shows nothing.
    assert not mysql.has_all_of(executed(f"{OTHER}:1-3"), executed(f"{OTHER}:1-3"))
    assert not mariadb.has_all_of(logged("", "0-1-9"), logged("0-1-9", server="1"))


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        ("1-9", "1-9", ""),
        ("1-9", "3-4", ":1-2:5-9"),
        ("1-9", "1-2:8-20", ":3-7"),
        ("1-3:7-9", "2:8", ":1:3:7:9"),
        ("5", "1-4:6", ":5"),
        ("1-9:20-30", "9-20", ":1-8:21-30"),
    ],
)
def test_a_set_without_another(one: str, other: str, left: str) -> None:
    found = MySQLPosition.parse(f"{UUID}:{one}").without(MySQLPosition.parse(f"{UUID}:{other}"))
    assert found.text() == (f"{UUID}{left}" if left else "")
    assert (
        MySQLPosition.parse(f"{UUID}:{one}")
        .without(MySQLPosition.parse(f"{OTHER}:1-99"))
        .text()
        .endswith(one)
    )
