"""Whether a primary has the history that a position names, as a table of what servers answer."""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.positions import MariaDBPosition, MySQLPosition
from peewee_replicas.servers import mariadb, mysql

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("wanted", "row", "has"),
    [
        ("0-1-100", ("0-1-100", "", 1), True),
        ("0-1-100", ("0-1-99", "", 1), False),
        ("0-1-100", ("0-1-95,0-2-150", "", 1), False),  # another server has gone on after a failover
        ("0-1-100", ("0-1-100,0-2-150", "", 1), True),
        ("0-1-100", ("0-2-150", "0-1-100", 1), True),  # applied, and not logged
        ("0-1-100", ("0-1-120", "0-1-90", 1), True),
        ("0-1-100,5-1-7", ("0-1-100", "", 1), False),
        ("0-1-100", ("", None, 1), False),
        ("0-1-100", ("", None, 0), True),  # without a log nothing can be told
    ],
)
def test_mariadb(wanted: str, row: tuple[Any, ...], has: bool) -> None:
    assert mariadb.in_history(row, MariaDBPosition.parse(wanted)) is has


@pytest.mark.parametrize(
    ("wanted", "row", "has"),
    [
        (f"{A}:1-7", ("", f"{A}:1-7", "ON"), True),
        (f"{A}:1-7", ("", f"{A}:1-6", "ON"), False),
        (f"{A}:7", (f"{A}:7#12", f"{A}:1-6", "ON"), True),
        (f"{A}:7", ("", f"{A}:1-6,{B}:1-50", "ON"), False),
        (f"{A}:7", ("", "", "OFF"), True),
    ],
)
def test_mysql(wanted: str, row: tuple[Any, ...], has: bool) -> None:
    assert mysql.in_history(row, MySQLPosition.parse(wanted)) is has


def test_a_position_of_the_other_kind_of_server_is_no_part_of_a_history() -> None:
    assert not mysql.in_history(("", f"{A}:1-7", "ON"), MariaDBPosition.parse("0-1-1"))
    assert not mariadb.in_history(("0-1-1", "", 1), MySQLPosition.parse(f"{A}:1"))
