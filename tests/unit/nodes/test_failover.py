"""Which node is the primary, from what all of them tell: decided without any server.

The cases: nobody, one, or several take writes; each of the others follows the one, another, nobody, or does
not tell; it follows through a third; it did not answer; two addresses are one server; members of a
replication group. And over time: two looks in a row, with anything in between.
"""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.nodes.failover import FailoverWatch, Seen, find_primary
from peewee_replicas.nodes.interview import Channel, Facts, Source
from peewee_replicas.servers import mariadb
from peewee_replicas.servers.identity import ServerIdentity


def channel(number: str, running: bool = True, **source: Any) -> Channel:
    found = Source(f"db{number}", "3306", number)._replace(**source)
    return Channel(running, running, 0.0, "", found, name=number)


def seen(number: int, *channels: Channel, leads: bool = False, **changed: Any) -> Seen:
    """Server `number`, at host dbN."""
    facts = Facts(
        server=ServerIdentity("", str(number), f"db{number}", "3306"), read_only=not leads, offline=False,
        member=False, position=None, sample=None, channels=channels, beats=None, variables={},
        dialect=mariadb,
    )  # fmt: skip
    return Seen(f"n{number}", f"n{number} (db{number}:3306)", f"db{number}:3306", facts._replace(**changed))


def away(number: int) -> Seen:
    return seen(number)._replace(told=None)


def follows(number: int, source: str, **changed: Any) -> Seen:
    return seen(number, channel(source), **changed)


def leads(number: int, *channels: Channel, **changed: Any) -> Seen:
    return seen(number, *channels, leads=True, **changed)


def grouped(number: int, role: str, state: str = "ONLINE", group: str = "g") -> Seen:
    variables = {"group_replication_group_name": group}
    return seen(
        number, leads=role == "PRIMARY", member=True, group_role=role, group_state=state, variables=variables
    )


STOPPED_1 = channel("1", running=False)


@pytest.mark.parametrize(
    ("nodes", "primary", "words"),
    [
        # As it should be, before and after.
        ([leads(1), follows(2, "1"), follows(3, "1")], "n1", "n2 (db2:3306) and n3 (db3:3306) replicate"),
        ([follows(1, "2"), leads(2), follows(3, "2")], "n2", "it takes writes, and n1"),
        ([follows(1, "2"), leads(2)], "n2", ""),
        ([leads(1)], "n1", "it takes writes"),
        ([follows(1, "2"), leads(2, STOPPED_1), follows(3, "2")], "n2", ""),
        # Chained, and what follows a replica that is writable all the same.
        ([follows(1, "2"), leads(2), follows(3, "1")], "n2", ""),
        ([follows(1, "2", read_only=False), leads(2), follows(3, "2")], "n2", ""),
        # Silence decides nothing, in neither direction.
        ([away(1), leads(2), follows(3, "2")], "n2", ""),
        ([away(1), leads(2)], "", "n1 (db1:3306) did not answer"),
        ([away(1), leads(2), away(3)], "", "did not answer"),
        ([away(1), leads(2), follows(3, "2"), away(4)], "", "n1 (db1:3306) and n4 (db4:3306) did not answer"),
        ([away(1), away(2), away(3)], "", "no node is known to take writes"),
        ([away(1), leads(2), follows(3, "1")], "", "n3 (db3:3306) replicates from db1:3306"),
        ([away(1), follows(2, "1", read_only=False), follows(3, "1")], "", "no node"),
        # Its stopped channel still names the old primary, which another follows.
        ([away(1), leads(2, STOPPED_1), follows(3, "1")], "", "n3 (db3:3306) replicates from db1:3306"),
        # Split brain, and half of a promotion.
        ([leads(1), leads(2), follows(3, "2")], "", "n1 (db1:3306) and n2 (db2:3306) all take writes"),
        ([seen(1), leads(2), follows(3, "2")], "", "n1 (db1:3306) replicates from nobody"),
        ([seen(1, channel("2", running=False)), leads(2), follows(3, "2")], "", "replicates from nobody"),
        ([seen(1), seen(2), seen(3)], "", "no node"),
        # Upstreams that are not known: no rights, an unlisted server, a chain through a silent node.
        ([follows(1, "2"), leads(2), seen(3, channels=None)], "", "does not tell whom it follows"),
        ([seen(1), leads(2, channels=None), follows(3, "2")], "", "no node"),
        ([follows(1, "2"), leads(2), follows(3, "9")], "", "replicates from db9:3306"),
        ([away(1), leads(2), follows(3, "2"), follows(4, "2"), follows(5, "1")], "", "n5 (db5:3306)"),
        # Another network's address: the server id decides, if it can.
        ([away(1), leads(2), seen(3, channel("2", host="10.0.0.2"))], "n2", ""),
        ([away(1), leads(2), seen(3, channel("2", host="10.0.0.2", server_id="0"))], "", "10.0.0.2:3306"),
        ([away(1), leads(2), seen(3, channel("2", host="10.0.0.2", server_id="7"))], "", "10.0.0.2:3306"),
        # One server under two addresses, as where the primary's address has moved already.
        ([leads(2)._replace(name="primary"), leads(2), follows(3, "2")], "primary", ""),
        # Replication groups.
        ([grouped(1, "SECONDARY"), grouped(2, "PRIMARY"), grouped(3, "SECONDARY")], "n2", ""),
        ([away(1), grouped(2, "PRIMARY"), grouped(3, "SECONDARY")], "n2", ""),
        ([grouped(1, "PRIMARY"), grouped(2, "PRIMARY"), grouped(3, "SECONDARY")], "", "all take writes"),
        ([grouped(1, "SECONDARY", "RECOVERING"), grouped(2, "PRIMARY")], "", "secondary of its"),
        ([grouped(1, "SECONDARY", group="h"), grouped(2, "PRIMARY")], "", "secondary of its"),
        ([leads(1, member=True, galera=True), leads(2, member=True, galera=True)], "", "all take writes"),
    ],
)
def test_who_is_the_primary_and_why_nobody_is(nodes: list[Seen], primary: str, words: str) -> None:
    found = find_primary(nodes)
    assert found.primary == primary
    assert words in found.words


OLD = [leads(1), follows(2, "1"), follows(3, "1")]
NEW = [follows(1, "2"), leads(2), follows(3, "2")]
HALF = [seen(1), leads(2), follows(3, "2")]
SILENT = [away(1), away(2), away(3)]
OTHER = [follows(1, "3"), follows(2, "3"), leads(3)]


@pytest.mark.parametrize(
    ("looks", "moves"),
    [
        ([OLD, OLD, OLD], [None, None, None]),
        ([OLD, NEW, NEW], [None, None, "n2"]),
        ([NEW, OLD, NEW], [None, None, None]),
        ([NEW, HALF, NEW, NEW], [None, None, None, "n2"]),
        ([NEW, SILENT, NEW], [None, None, None]),  # the answers came too late for the second look
        ([NEW, OTHER, OTHER], [None, None, "n3"]),
        ([SILENT, SILENT], [None, None]),
        ([HALF, HALF, HALF], [None, None, None]),
    ],
)
def test_two_looks_in_a_row_have_to_show_the_same(looks: list[list[Seen]], moves: list[str | None]) -> None:
    watch = FailoverWatch()
    found = [watch.look(nodes) for nodes in looks]
    assert [one and one.primary for one in found] == moves
