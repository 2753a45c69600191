"""Reading session trackers: what a server sends, and bytes that no server should send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymysql.connections import MySQLResult
from pymysql.constants import SERVER_STATUS
from pymysql.protocol import MysqlPacket
from support.scripted_server import length, text
from support.scripted_server import trackers as packed

from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.servers.dialects import dialect_of
from peewee_replicas.servers.wire.connection import Connection
from peewee_replicas.servers.wire.results import Result
from peewee_replicas.servers.wire.trackers import read_length, session_trackers

CHANGED = 1 << 14
AUTOCOMMIT = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
IN_TRANSACTION = SERVER_STATUS.SERVER_STATUS_IN_TRANS


def tail(info: bytes, trackers: list[tuple[int, bytes]]) -> bytes:
    return packed(*trackers, info=info)


def connection(dialect: Any = mariadb) -> Connection:
    """One that was never opened, to hear what a test says."""
    made = Connection(defer_connect=True)
    made.tracks = made._ready = True
    made.dialect = dialect
    made.last_statement = "SET @a = 1"
    return made


@given(st.integers(0, 2**64 - 1), st.binary(max_size=9))
def test_lengths_read_back(value: int, rest: bytes) -> None:
    encoded = length(value)
    assert read_length(b"x" + encoded + rest, 1) == (value, 1 + len(encoded))


@pytest.mark.parametrize("data", [b"", b"\xfb", b"\xff", b"\xfc\x01", b"\xfd\x01\x02", b"\xfe" + b"\x00" * 7])
def test_what_is_no_length_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        read_length(data, 0)


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=6))
def test_trackers_read_back(info: bytes, trackers: list[tuple[int, bytes]]) -> None:
    assert list(session_trackers(tail(info, trackers))) == trackers


@given(
    st.binary(max_size=300),
    st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=80)), min_size=1),
    st.data(),
)
def test_a_tail_that_ends_early_is_refused(
    info: bytes, trackers: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = tail(info, trackers)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match=r"ends early|malformed"):
        list(session_trackers(whole[:cut]))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = list(session_trackers(data))
    except ValueError:
        return
    assert sum(len(payload) for _, payload in found) <= len(data)


@given(st.binary(max_size=60))
def test_a_tail_of_any_bytes_raises_nothing(data: bytes) -> None:
    heard = connection()
    heard.statement_ended(AUTOCOMMIT | CHANGED, data)
    assert heard.server_status == AUTOCOMMIT | CHANGED


# What the servers really sent, as their bytes were seen.


def test_mariadb_position() -> None:
    heard = connection()
    heard.statement_ended(AUTOCOMMIT | CHANGED, bytes.fromhex("00120010") + b"\x09last_gtid\x050-1-8")
    assert heard.position == mariadb.position("0-1-8")
    assert heard.changes == []


def test_mysql_position() -> None:
    gtid = b"3e11fa47-71ca-11e1-9e33-c80aa9429562:8"
    heard = connection(mysql)
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(3, b"\x00" + text(gtid))]))
    assert heard.position == mysql.position(gtid.decode())


def test_the_information_of_an_update_is_no_tracker() -> None:
    info = b"Rows matched: 1  Changed: 1  Warnings: 0"
    heard = connection()
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(info, [(0, text(b"last_gtid") + text(b"0-1-9"))]))
    assert heard.position == mariadb.position("0-1-9")


def test_another_variable_is_no_position() -> None:
    heard = connection()
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(0, text(b"autocommit") + text(b"ON"))]))
    assert heard.position is None


def test_a_change_remembers_the_text_that_made_it() -> None:
    heard = connection()
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(2, b"\x011")]))
    assert heard.changes == ["SET @a = 1"]
    heard.effect_known = True  # the owner knows from the text what it does
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(2, b"\x011")]))
    assert heard.changes == ["SET @a = 1"]


def test_changes_are_kept_up_to_a_bound() -> None:
    heard = connection()
    for _ in range(1000):
        heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(2, b"\x011")]))
    assert 0 < len(heard.changes) < 100


def test_without_the_flag_a_tail_is_not_read() -> None:
    heard = connection()
    heard.statement_ended(AUTOCOMMIT, b"\xff\xff")
    heard.tracks = False
    heard.statement_ended(AUTOCOMMIT | CHANGED, b"\xff\xff")
    assert heard.changes == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (AUTOCOMMIT, ""),
        (AUTOCOMMIT | IN_TRANSACTION, "open transaction"),
        (IN_TRANSACTION, "open transaction"),
        (0, "autocommit is off"),
    ],
)
def test_the_status_word_tells_the_transaction(status: int, says: str) -> None:
    heard = connection()
    heard.statement_ended(status, b"")
    assert says in heard.transaction
    assert heard.in_transaction == bool(says)
    heard.statement_ended(AUTOCOMMIT, b"")
    assert heard.transaction == ""


def test_lock_tables_counts_as_a_transaction_until_the_server_says_unlocked() -> None:
    heard = connection()
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(5, text(b"_______L"))]))
    assert heard.in_transaction
    heard.statement_ended(AUTOCOMMIT, b"")
    assert heard.in_transaction
    heard.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", [(5, text(b"________"))]))
    assert not heard.in_transaction


@pytest.mark.parametrize(
    ("version", "module"),
    [
        ("10.11.6-MariaDB-0+deb12u1", mariadb),
        ("5.5.5-10.6.12-MariaDB", mariadb),
        ("11.4.2-MariaDB-log", mariadb),
        ("10.6.1", mariadb),
        ("8.0.36", mysql),
        ("8.4.0-log", mysql),
        ("9.7.4", mysql),
        ("5.7.44-log", mysql),
        ("8.0.mysql_aurora.3.05.2", mysql),
        ("", mysql),
    ],
)
def test_dialect_by_version(version: str, module: Any) -> None:
    assert dialect_of(version) is module


_UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
# Numbers of one length and of different lengths, several in one GTID, and what no server should send.
_NUMBERS = st.integers(8, 11).map(str) | st.sampled_from(
    [
        "0",
        "00",
        "08",
        "",
        "1_0",
        " 9",
        "x",
        "8-9",
        "10-12",
        f"{2**63 - 1}",
        f"{2**64}",
        "9" * 21,
    ]
)
GTIDS = {
    mariadb: st.one_of(
        st.builds("{}-1-{}".format, st.sampled_from("01"), _NUMBERS),
        st.builds("0-1-{},1-1-{}".format, _NUMBERS, _NUMBERS),
    ),
    mysql: st.one_of(
        st.builds("{}:{}".format, st.sampled_from([_UUID, _UUID.upper(), f"{_UUID}:tag"]), _NUMBERS),
        st.builds(f"{_UUID}:{{}}:{{}}".format, _NUMBERS, _NUMBERS),
    ),
}
SERVERS = st.sampled_from([mariadb, mysql])
OTHER_TRACKERS = st.one_of(
    st.sampled_from([b"________", b"T_______", b"_______L", b"T______L"]).map(lambda state: (5, text(state))),
    st.sampled_from([(2, b"1"), (0, text(b"autocommit") + text(b"ON")), (0, text(b"last_gtid") + text(b""))]),
)


def reports(dialect: Any) -> st.SearchStrategy[tuple[Any, list[list[tuple[int, bytes]]]]]:
    gtids = GTIDS[dialect].map(str.encode)
    trackers = st.one_of(
        gtids.map(lambda gtid: (3, b"\0" + text(gtid))),
        gtids.map(lambda gtid: (0, text(b"last_gtid") + text(gtid))),
        OTHER_TRACKERS,
    )
    return st.tuples(st.just(dialect), st.lists(st.lists(trackers, max_size=3), max_size=12))


@given(SERVERS.flatmap(reports))
def test_what_is_remembered_of_trackers_changes_nothing_that_is_heard(told: tuple[Any, list[Any]]) -> None:
    dialect, reported = told
    remembering, forgetful = connection(dialect), connection(dialect)
    for trackers in reported:
        found = []
        forgetful._seen_tails.clear()
        for conn in (remembering, forgetful):
            conn.changes.clear()
            conn.statement_ended(AUTOCOMMIT | CHANGED, tail(b"", trackers))
            text = None if conn.position is None else conn.position.text()
            found.append((text, conn.complaint, conn._tables_locked, conn.transaction, conn.changes[:]))
            conn.complaint = ""
        assert found[0] == found[1]


def test_trackers_are_remembered_up_to_a_bound() -> None:
    conn = connection()
    for size in range(100):
        conn.statement_ended(AUTOCOMMIT | CHANGED, tail(b"x" * size, [(3, b"\0" + text(b"0-1-5"))]))
    assert 0 < len(conn._seen_tails) <= 16


class _Arrived:
    """A connection on which packets have arrived."""

    encoding = "utf8"
    _next_seq_id = 1

    def __init__(self, data: bytes) -> None:
        self._rfile = SimpleNamespace(data=b"before" + data, at=len(b"before"))
        self.told: Any = None

    @property
    def data(self) -> bytes:
        """What is unread."""
        return self._rfile.data[self._rfile.at :]

    def arrived(self) -> tuple[bytes, int]:
        return self._rfile.data, self._rfile.at

    def statement_ended(self, status: int, message: bytes) -> None:
        self.told = (status, message)

    def _read_packet(self) -> Any:
        size = int.from_bytes(self.data[:3], "little")
        packet = self.data[4 : 4 + size]
        self._rfile.at += 4 + size
        return MysqlPacket(packet, self.encoding)


LENGTHS = st.integers(0, 2**64 - 1) | st.integers(0, 300)
WORDS = st.integers(0, 2**16 - 1)


@given(LENGTHS, LENGTHS, WORDS, WORDS, st.binary(max_size=300), st.binary(max_size=20))
def test_an_ok_packet_is_read_as_the_driver_reads_it(
    rows: int, row: int, status: int, warnings: int, message: bytes, behind: bytes
) -> None:
    words = status.to_bytes(2, "little") + warnings.to_bytes(2, "little")
    packet = b"\0" + length(rows) + length(row) + words + message
    data = len(packet).to_bytes(3, "little") + b"\1" + packet
    ours: Any = _Arrived(data + behind)
    result = Result(ours)
    result.read()
    theirs: Any = MySQLResult(_Arrived(data))
    theirs.read()
    names = ("affected_rows", "insert_id", "server_status", "warning_count", "message", "has_next")
    assert [getattr(result, name) for name in names] == [getattr(theirs, name) for name in names]
    assert (result.connection, ours.told, ours.data) == (None, (status, message), behind)


@pytest.mark.parametrize(("unread", "told"), [(True, 1), (False, 0)])
def test_a_result_that_is_collected_tells_its_connection_only_of_what_is_unread(
    unread: bool, told: int
) -> None:
    left = []

    class Owner:
        def leave_unread(self, result: Result) -> None:
            result.unbuffered_active = False
            left.append(result.field_count)

    result = Result(Owner())
    result.unbuffered_active = unread
    del result
    assert len(left) == told
