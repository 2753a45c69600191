"""Positions, held to the servers' own functions on random sets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest
from support.clusters import own_cluster

from peewee_replicas.positions import MariaDBPosition, MySQLInterval, MySQLPosition
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.core

PAIRS = 500
UUIDS = ("00000000-0000-0000-0000-0000000000aa", "3e11fa47-71ca-11e1-9e33-c80aa9429562")
WAIT_SECONDS = 0.001  # MySQL takes 0 for "without end"


class Session:
    """One connection as the administrator."""

    def __init__(self, cluster: LocalCluster, node: str) -> None:
        parameters = {**cluster.parameters(node), "user": cluster.admin_user}
        self.connection = pymysql.connect(**parameters, autocommit=True, read_timeout=30)

    def ask(self, sql: str, *params: object) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            return cursor.fetchone() or ()

    def close(self) -> None:
        self.connection.close()


# MySQL


@pytest.fixture(scope="module")
def mysql() -> Iterator[Session]:
    """A server of our own: what is done to its history cannot be undone."""
    with own_cluster("mysql", 0) as cluster, closing(Session(cluster, "primary")) as session:
        yield session


def tags(session: Session) -> tuple[str, ...]:
    """Tags to use; there are none before MySQL 8.3."""
    (version,) = session.ask("SELECT @@version")
    new = tuple(int(part) for part in str(version).split(".")[:2]) >= (8, 3)
    return ("", "", "tag", "_z9") if new else ("",)


def some_intervals(chance: random.Random, tags: tuple[str, ...], most: int = 8) -> list[MySQLInterval]:
    found = []
    for _ in range(chance.randint(1, most)):
        first = chance.randint(1, 12)
        length = chance.choice((0, 0, 1, 4))
        found.append(MySQLInterval(chance.choice(UUIDS), chance.choice(tags), first, first + length))
    return found


def untidy(chance: random.Random, intervals: list[MySQLInterval]) -> str:
    """The intervals as a server reads and never writes them: unsorted, repeated, in mixed case."""
    parts = []
    for uuid, tag, first, last in intervals:
        numbers = f"{first}" if first == last and chance.random() < 0.7 else f"{first}-{last}"
        name = uuid.upper() if chance.random() < 0.3 else uuid
        shown_tag = tag.upper() if chance.random() < 0.3 else tag
        again = f":{chance.randint(1, 9)}" if chance.random() < 0.3 else ""
        parts.append(f"{name}:{shown_tag}:{numbers}{again}" if tag else f"{name}:{numbers}{again}")
    return chance.choice((",", ",\n", ", ")).join(parts)


def test_mysql_sets_are_the_servers(mysql: Session) -> None:
    chance = random.Random(20)
    covered = 0
    for _ in range(PAIRS):
        texts = [untidy(chance, some_intervals(chance, tags(mysql), most)) for most in (12, 3)]
        large, small = map(MySQLPosition.parse, texts)
        if chance.random() < 0.4:  # or a subset would be rare
            large = large.merge(small)
            texts[0] = large.text()
        own = (
            large.covers(small),
            small.covers(large),
            large.covers(small),
            large.text(),
            small.text(),
            large.merge(small).text(),
            small.merge(large).text(),
        )
        row = mysql.ask(
            "SELECT GTID_SUBSET(%s, %s), GTID_SUBSET(%s, %s), GTID_SUBTRACT(%s, %s) = '',"
            " GTID_SUBTRACT(%s, ''), GTID_SUBTRACT(%s, ''),"
            " GTID_SUBTRACT(CONCAT(%s, ',', %s), ''), GTID_SUBTRACT(CONCAT(%s, ',', %s), '')",
            *(texts[1], texts[0], texts[0], texts[1], texts[1], texts[0]),
            *texts,
            *(texts * 2),
        )
        theirs = (*map(bool, row[:3]), *(str(text).replace("\n", "") for text in row[3:]))
        assert own == theirs, texts
        covered += own[0]
    assert PAIRS * 0.2 < covered < PAIRS * 0.9


def test_mysql_waits_are_over_where_the_position_is_covered(mysql: Session) -> None:
    chance = random.Random(21)
    for uuid, tag, first, _ in some_intervals(chance, tags(mysql), 60) + some_intervals(
        chance, tags(mysql), 60
    ):
        gtid = f"{uuid}:{tag}:{first}" if tag else f"{uuid}:{first}"
        mysql.ask(f"SET gtid_next = '{gtid}'")
        mysql.ask("BEGIN")
        mysql.ask("COMMIT")
    mysql.ask("SET gtid_next = 'AUTOMATIC'")
    (executed,) = mysql.ask("SELECT @@GLOBAL.gtid_executed")
    reached = MySQLPosition.parse(executed)
    assert reached.text() == executed.replace("\n", "")
    assert reached.size > len(UUIDS) + 1, "the set has gaps"
    outcomes = []
    for _ in range(PAIRS):
        uuid, tag, first, last = chance.choice(reached.intervals())
        picked = chance.randint(first, last)
        wanted = MySQLPosition([(uuid, tag, picked, chance.randint(picked, last))])
        if chance.random() < 0.5:
            wanted = wanted.merge(MySQLPosition(some_intervals(chance, tags(mysql), 1)))
        (result,) = mysql.ask("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)", wanted.text(), WAIT_SECONDS)
        assert reached.covers(wanted) == (result == 0), wanted
        outcomes.append(result == 0)
    assert PAIRS * 0.1 < sum(outcomes) < PAIRS * 0.9


def test_mysql_owned_gtids(mysql: Session) -> None:
    tagged = len(tags(mysql)) > 1
    owned = [f"{UUIDS[0]}:1001", f"{UUIDS[0]}:1003", f"{UUIDS[1]}:{'tag:' if tagged else ''}1005"]
    assert MySQLPosition.parse_owned(mysql.ask("SELECT @@GLOBAL.gtid_owned")[0]).is_empty
    owners = []
    try:
        for gtid in owned:
            owner = pymysql.connect(
                host=mysql.connection.host,
                port=mysql.connection.port,
                user=mysql.connection.user,
                password=mysql.connection.password,
            )
            owners.append(owner)
            owner.cursor().execute(f"SET gtid_next = '{gtid}'")
        (text,) = mysql.ask("SELECT @@GLOBAL.gtid_owned")
        assert text.count("#") == 3
        assert MySQLPosition.parse_owned(text) == MySQLPosition.parse(",".join(owned))
        with pytest.raises(ValueError, match="neither interval nor tag"):
            MySQLPosition.parse(text)
    finally:
        for owner in owners:
            owner.close()


@pytest.mark.parametrize(
    "end", [":0", ":9223372036854775807", ":", ":1#5", ":1tag:5", ":tag-x:5", ":1-9223372036854775807"]
)
def test_mysql_refuses_what_is_refused_here(mysql: Session, end: str) -> None:
    with pytest.raises(ValueError, match="not a GTID set"):
        MySQLPosition.parse(UUIDS[0] + end)
    with pytest.raises(pymysql.err.MySQLError) as caught:
        mysql.ask("SELECT GTID_SUBTRACT(%s, '')", UUIDS[0] + end)
    assert caught.value.args[0] == 1772


def test_mysql_takes_the_highest_number(mysql: Session) -> None:
    highest = MySQLPosition.parse(f"{UUIDS[0]}:1-9223372036854775806").text()
    assert mysql.ask("SELECT GTID_SUBTRACT(%s, '')", highest) == (highest,)


# MariaDB


@pytest.fixture(scope="module")
def mariadb() -> Iterator[tuple[Session, Session]]:
    """A primary whose history has several domains and servers, and a replica that has all of it."""
    with (
        own_cluster("mariadb", 1) as cluster,
        closing(Session(cluster, "primary")) as primary,
        closing(Session(cluster, "replica-1")) as replica,
    ):
        primary.ask("CREATE TABLE written (id INT)")
        for gtid in ("0-1-50", "1-7-7", "2-7-3", "2-8-9", f"4294967295-9-{2**63}"):
            # One at a time: the server checks the number in the domain it is in by then.
            for name, value in zip(
                ("gtid_domain_id", "server_id", "gtid_seq_no"), gtid.split("-"), strict=True
            ):
                primary.ask(f"SET SESSION {name} = {value}")
            primary.ask("INSERT INTO written VALUES (1)")
        cluster.sync()
        yield primary, replica


def near(chance: random.Random, position: MariaDBPosition) -> MariaDBPosition:
    """A position whose numbers are around those of another, in some of its domains and maybe one more."""
    gtids = [gtid for gtid in position.gtids() if chance.random() < 0.5]
    found = [
        (domain, chance.choice((server, 5)), max(0, sequence + chance.choice((-9, -2, -1, 0, 0, 0, 1, 5))))
        for domain, server, sequence in gtids
    ]
    if chance.random() < 0.2:
        found.append((77, 1, chance.choice((0, 0, 1))))
    chance.shuffle(found)
    return MariaDBPosition(found)


def test_mariadb_waits_are_over_where_the_position_is_covered(mariadb: tuple[Session, Session]) -> None:
    _, replica = mariadb
    chance = random.Random(22)
    (text,) = replica.ask("SELECT @@GLOBAL.gtid_slave_pos")
    reached = MariaDBPosition.parse(text)
    assert sorted(reached.text().split(",")) == sorted(text.split(","))
    assert reached.size == 4
    outcomes = []
    for _ in range(PAIRS):
        wanted = near(chance, reached).merge(near(chance, reached))
        (result,) = replica.ask("SELECT MASTER_GTID_WAIT(%s, 0)", wanted.text())
        assert reached.covers(wanted) == (result == 0), wanted
        outcomes.append(result == 0)
    assert PAIRS * 0.1 < sum(outcomes) < PAIRS * 0.9


def test_mariadb_merge_is_what_both_waits_are(mariadb: tuple[Session, Session]) -> None:
    _, replica = mariadb
    chance = random.Random(23)
    reached = MariaDBPosition.parse(replica.ask("SELECT @@GLOBAL.gtid_slave_pos")[0])
    outcomes = set()
    for _ in range(PAIRS):
        one, other = near(chance, reached), near(chance, reached)
        row = replica.ask(
            "SELECT MASTER_GTID_WAIT(%s, 0), MASTER_GTID_WAIT(%s, 0), MASTER_GTID_WAIT(%s, 0)",
            one.text(),
            other.text(),
            one.merge(other).text(),
        )
        assert (row[0] == row[1] == 0) == (row[2] == 0), (one, other)
        outcomes.add(row)
    assert len(outcomes) == 4


@pytest.mark.parametrize("text", ["0-1-0", "77-1-0", "0-5-50", "00-1-01", "", "0-1-1,\n77-1-0"])
def test_mariadb_has_reached_what_is_covered_here(mariadb: tuple[Session, Session], text: str) -> None:
    _, replica = mariadb
    assert replica.ask("SELECT MASTER_GTID_WAIT(%s, 0)", text) == (0,)
    assert MariaDBPosition.parse(replica.ask("SELECT @@GLOBAL.gtid_slave_pos")[0]).covers(
        MariaDBPosition.parse(text)
    )


@pytest.mark.parametrize(
    "text", ["4294967296-1-1", "0-4294967296-1", "0-1-18446744073709551616", "0-1-1,", "0-1", "0-1-x"]
)
def test_mariadb_refuses_what_is_refused_here(mariadb: tuple[Session, Session], text: str) -> None:
    with pytest.raises(ValueError, match="not a GTID"):
        MariaDBPosition.parse(text)
    with pytest.raises(pymysql.err.MySQLError) as caught:
        mariadb[1].ask("SELECT MASTER_GTID_WAIT(%s, 0)", text)
    assert caught.value.args[0] == 1941


def test_mariadb_lost_history(mariadb: tuple[Session, Session]) -> None:
    primary, replica = mariadb
    (state,) = primary.ask("SELECT @@GLOBAL.gtid_binlog_state")
    here = MariaDBPosition.parse(replica.ask("SELECT @@GLOBAL.gtid_slave_pos")[0])
    assert here.recorded_in(state)
    assert MariaDBPosition.parse("2-7-3,0-1-2").recorded_in(state), "an earlier server of the domain"
    assert not MariaDBPosition.parse("2-7-4").recorded_in(state), "beyond what that server wrote"
    assert here.covers(MariaDBPosition.parse("2-7-4")), "which comparing positions cannot tell"
    with pytest.raises(ValueError, match="domain 2 is there twice"):
        MariaDBPosition.parse(state)
