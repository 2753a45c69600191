"""Why a node was never seen to reach a position of the primary's: each mistake has words of its own.

The members of the kind are the ways in which a position can fail to cover another: of another kind of
server, empty, without any common source, without some sources, with gaps, and simply earlier. They were found
from what `Position.covers()` compares, for both kinds of server.
"""

from __future__ import annotations

import pytest

from peewee_replicas.nodes.unreached import why_unreached
from peewee_replicas.positions import MariaDBPosition, MySQLPosition, Position

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"


def mysql(text: str) -> MySQLPosition:
    return MySQLPosition.parse(text)


def mariadb(text: str) -> MariaDBPosition:
    return MariaDBPosition.parse(text)


CASES = [
    (mariadb("0-1-5"), mysql(f"{A}:1-9"), "is another kind of server"),
    (mysql(f"{A}:1-9"), mariadb("0-1-5"), "is another kind of server"),
    (mariadb(""), mariadb("0-1-5"), "has applied nothing that carries a GTID"),
    (mysql(""), mysql(f"{A}:1-9"), "has applied nothing that carries a GTID"),
    (mariadb("7-9-5"), mariadb("0-1-5"), "has nothing of the primary's history"),
    (mysql(f"{B}:1-9"), mysql(f"{A}:1-9"), "has nothing of the primary's history"),
    (mariadb("0-1-5"), mariadb("0-1-5,7-9-3"), "none of the primary's transactions of domain 7"),
    (mysql(f"{A}:1-9"), mysql(f"{A}:1-9,{B}:1-3"), f"none of the primary's transactions of {B}"),
    (mysql(f"{A}:5-9"), mysql(f"{A}:1-9"), "without setting gtid_purged"),
    (mysql(f"{A}:1-4:6-20"), mysql(f"{A}:1-9"), "lacks earlier transactions"),
    (mariadb("0-1-4"), mariadb("0-1-5"), "is behind: it has 0-1-4"),
    (mariadb("0-1-4"), mariadb("0-2-5"), "is behind: it has 0-1-4"),  # another server of the same domain
    (mysql(f"{A}:1-4"), mysql(f"{A}:1-9"), "is behind"),
    (mysql(f"{A}:1-4,{B}:1-3"), mysql(f"{A}:1-9"), "is behind"),
]


@pytest.mark.parametrize(("reached", "primary", "words"), CASES)
def test_each_mistake_has_its_own_words(reached: Position, primary: Position, words: str) -> None:
    assert type(reached) is not type(primary) or not reached.covers(primary)
    assert words in why_unreached(reached, primary)


def test_words_are_different_and_name_the_remedy_where_there_is_one() -> None:
    said = {words: why_unreached(reached, primary) for reached, primary, words in CASES}
    assert "gtid_slave_pos" in said["none of the primary's transactions of domain 7"]
    assert "does it follow another primary?" in said["has nothing of the primary's history"]
    assert "SHOW REPLICA STATUS" in said["has applied nothing that carries a GTID"]


def test_long_positions_are_shortened() -> None:
    long = mariadb(",".join(f"{n}-1-5" for n in range(50)))
    assert len(why_unreached(long, mariadb("60-1-5"))) < 300
