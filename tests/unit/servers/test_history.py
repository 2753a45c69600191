"""What of a position a primary's history does not have, as a table of what servers answer."""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.positions import MariaDBPosition, MySQLPosition
from peewee_replicas.servers import mariadb, mysql

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("wanted", "row", "lost"),
    [
        ("0-1-100", ("0-1-100", "", 1), None),
        ("0-1-100", ("0-1-99", "", 1), "0-1-100"),
        ("0-1-100", ("0-1-95,0-2-150", "", 1), "0-1-100"),  # another server has gone on after a failover
        ("0-1-100", ("0-1-100,0-2-150", "", 1), None),
        ("0-1-100", ("0-2-150", "0-1-100", 1), None),  # applied, and not logged
        ("0-1-100", ("0-1-120", "0-1-90", 1), None),
        ("0-1-100,5-1-7", ("0-1-100", "", 1), "5-1-7"),
        ("0-1-100", ("", None, 1), "0-1-100"),
        ("0-1-100", ("", None, 0), None),  # without a log nothing can be told
    ],
)
def test_mariadb(wanted: str, row: tuple[Any, ...], lost: str | None) -> None:
    found = mariadb.missing(row, MariaDBPosition.parse(wanted))
    assert (found and found.text()) == lost


@pytest.mark.parametrize(
    ("wanted", "row", "lost"),
    [
        (f"{A}:1-7", ("", f"{A}:1-7", "ON"), None),
        (f"{A}:1-7", ("", f"{A}:1-6", "ON"), f"{A}:7"),
        (f"{A}:7", (f"{A}:7#12", f"{A}:1-6", "ON"), None),
        (f"{A}:7", ("", f"{A}:1-6,{B}:1-50", "ON"), f"{A}:7"),
        (f"{A}:2-9:t:4,{B}:1", ("", f"{A}:1-3:5-7:t:1-3", "ON"), f"{A}:4:8-9:t:4,{B}:1"),
        (f"{A}:7", ("", "", "OFF"), None),
    ],
)
def test_mysql(wanted: str, row: tuple[Any, ...], lost: str | None) -> None:
    found = mysql.missing(row, MySQLPosition.parse(wanted))
    assert (found and found.text()) == lost


def test_a_position_of_the_other_kind_of_server_is_no_part_of_a_history() -> None:
    theirs, ours = MariaDBPosition.parse("0-1-1"), MySQLPosition.parse(f"{A}:1")
    assert mysql.missing(("", f"{A}:1-7", "ON"), theirs) is theirs
    assert mariadb.missing(("0-1-1", "", 1), ours) is ours
