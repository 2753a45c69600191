"""The table of errors against the catalogues that the servers bring along: nothing of a class was forgotten.

The members of the kind are all numbers of both catalogues, found by going through them: MariaDB's is its
``errmsg.sys``, MySQL's is what its ``perror`` says. A number whose name or text speaks of storage, memory,
rights, things that are not there, or the server's state has to be in the table, or below with a reason.
The numbers that were tried on real servers are in `test_errors_of_late_schema` and `test_unreadable_data`.
"""

from __future__ import annotations

import re
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from pymysql.constants import CR
from support.clusters import require

from peewee_replicas.servers.error_table import NOT_LET_IN, TABLE, Server
from peewee_replicas.testing.installations import find


class Entry(NamedTuple):
    """One line of a catalogue; MariaDB's has no names."""

    number: int
    name: str
    text: str
    obsolete: bool = False


@cache
def catalogue(server: str) -> dict[int, Entry]:
    require(server)
    entries = _of_mariadb() if server == "mariadb" else _of_mysql()
    assert len(entries) > 1000
    return {entry.number: entry for entry in entries}


def _of_mariadb() -> list[Entry]:
    program = Path(find("mariadb").command[0]).resolve()
    folders = [program.parent.parent / "share" / name for name in ("mysql", "mariadb")]
    found = [path for folder in folders for path in [folder / "english/errmsg.sys"] if path.exists()]
    if not found:
        pytest.skip(f"NO CATALOGUE OF MARIADB'S ERRORS: no english/errmsg.sys in {folders}")
    data = found[0].read_bytes()
    errors, sections = struct.unpack_from("<HH", data, 12)
    sizes = struct.unpack_from(f"<{sections}H", data, 32)
    place = 32 + 2 * sections
    lengths = iter(struct.unpack_from(f"<{errors}H", data, place))
    place += 2 * errors
    entries = []
    for section, size in enumerate(sizes, 1):
        for number in range(1000 * section, 1000 * section + size):
            length = next(lengths)
            text = data[place : place + length].rstrip(b"\0").decode("utf-8", "replace")
            place += length
            if text and "never see it" not in text:
                entries.append(Entry(number, "", text))
    return entries


def _of_mysql() -> list[Entry]:
    line = re.compile(r"^MySQL error code MY-0*(\d+) \((\w+)\): (.*)$", re.MULTILINE)
    entries = []
    for start in range(1000, 8000, 1000):
        numbers = [str(number) for number in range(start, start + 1000)]
        for number, name, text in line.findall(_perror(numbers)):
            plain = name.removeprefix("OBSOLETE_").removeprefix("ER_")
            entries.append(Entry(int(number), plain, text, name.startswith("OBSOLETE_")))
    return entries


def _perror(numbers: list[str]) -> str:
    require("mysql")
    installation = find("mysql")
    server = Path(installation.command[-1])
    candidates = [server.parent.parent / "bin/perror", server.parent / "perror"]
    program = next((path for path in candidates if path.exists()), None)
    if program is None:
        pytest.skip(f"NO CATALOGUE OF MYSQL'S ERRORS: no perror beside {server}")
    command = [*installation.command[:-1], str(program), *numbers]
    environment = installation.environment()
    # It says of each number that it does not know so on the other stream.
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout


# Whatever speaks of these things is looked at.
CLASSES = {
    "storage": r"memory|\bdisk|corrupt|crash|damaged|repair|tablespace|keyring|\bfile|storage engine|\bIO |"
    r"upgrade|rebuild|is full|not loaded|bad data|undo",
    "resources": r"too many (conn|thread|open|user)|resource|not enough|can't create (a new )?thread|"
    r"max_\w*connections|memory limit|exhausted",
    "rights": r"access denied|command denied|privilege|password|account|authenticat|handshake|secure|"
    r"\bhost\b|plugin",
    "not there": r"doesn't exist|does not exist|not exist|unknown|can't find|no such|not found|not defined|"
    r"no index|is not of|invalid (table|role)|undefined",
    "state": r"group.replication|offline|shutdown|read.only|backlog|galera|wsrep|server is|killed|"
    r"clos(e|ing)|communication|packet",
}

# Why a number that speaks of them is a statement's own all the same. No plain read ends in one of these.
REASONS: dict[str, tuple[int, ...]] = {
    "it answers CREATE, ALTER, DROP or RENAME": (
        1008, 1029, 1031, 1036, 1051, 1072, 1082, 1089, 1112, 1127, 1128, 1163, 1164, 1167, 1178, 1185, 1187,
        1266, 1346, 1372, 1448, 1454, 1464, 1472, 1478, 1488, 1490, 1501, 1530, 1538, 1602, 1622, 1711, 1713,
        1726, 1749, 1800, 1801, 1809, 1813, 1816, 1879, 1880, 1910, 1911, 3006, 3007, 3011, 3014, 3098, 3503,
        3544, 3553, 3681,
    ),
    "it answers a write, or LOAD DATA": (1032, 1085, 1086, 1409, 1467, 1475, 1741),
    "it answers GRANT, REVOKE, SET PASSWORD or the like": (
        1131, 1132, 1144, 1145, 1147, 1269, 1275, 1403, 1404, 1405, 1469, 1699, 1759, 1819, 1827, 1873, 1959,
        1974, 1976, 3016, 3162, 3202, 3619, 3638, 3639, 3671, 6038, 6427,
    ),
    "it answers what runs replication, the binary log or XA": (
        1098, 1186, 1200, 1202, 1373, 1374, 1379, 1397, 1419, 1587, 1610, 1612, 1617, 1662, 1663, 1664, 1665,
        1744, 1760, 1763, 1779, 1780, 1788, 1802, 1858, 1866, 1867, 1868, 1876, 1885, 3021, 3023, 3056,
        3101, 3197, 3231, 3635,
    ),
    "it answers INSTALL, SET, KILL, PREPARE, HANDLER, HELP or PROCEDURE ANALYSE": (
        1094, 1106, 1193, 1243, 1244, 1284, 1579, 1577, 1619, 1620, 1621, 1702, 1720, 1721, 1791, 1883, 1922,
        1957, 1968, 3615, 3917, 3918,
    ),
    "MariaDB: it answers NEXTVAL and LASTVAL, which go to the primary": (4091,),
    "it is about a stored program's text": (1319, 1324, 1339, 1643, 4095, 4096),
    "it is a warning or a part of a message": (
        1256, 1258, 1259, 1298, 1301, 1354, 1469, 1887, 3025, 3089, 3127, 3237, 3565, 6431,
    ),
    "it is for the server's log": (1080, 1184, 1388),
    "a name in the statement itself that DDL cannot make": (1109, 1649, 3579, 4009),
    "the statement's own size": (1162, 3068, 4075, 4082),
    "too vague to say anything about the node": (1105, 1835, 3035, 3036, 3043, 3054),
    "a file that it names itself": (3121,),
    "another number has taken its place": (1547, 1548),
    "MariaDB: it answers CREATE, ALTER or DROP, a backup or a write": (
        4031, 4047, 4050, 4062, 4081, 4092, 4097, 4098, 4118, 4129, 4139, 4144, 4145, 4146, 4147,
        4148, 4149, 4156, 4161, 4162, 4165, 4167,
    ),
}  # fmt: skip
EXEMPT = {number for numbers in REASONS.values() for number in numbers}
# MySQL's names from 3000 on tell what a number belongs to. No plain read meets these.
BELONGS_TO = {
    "replication, groups and clones": (
        "ANONYMOUS_TO APPLIER BINLOG CHANGE_REP CHANGE_SOURCE CLONE GROUP_REPLICATION GRP_OPERATION "
        "GRP_RPL OPERATION_NOT REPLICA REQUIRE_TABLE RPL_ENCRYPTION UPDATE_GTID WRITE_SET "
        "XA_REPLICATION"
    ),
    "DDL": (
        "ALTER_ CANNOT_SET CANNOT_USE CHECK_CONSTRAINT CONSTRAINT_ DEPRECATE DISABLED_STORAGE "
        "ENGINE_ EXTERNAL_ FK_ GIPK IF_NOT_EXISTS INNODB_IMPORT INNODB_INCOMPATIBLE INVALID_DD "
        "INVALID_ENCRYPTION JDV RESERVED SCHEMA_READ_ONLY SDI SRS TABLESPACE_ TABLE_IN TABLE_NOT "
        "TARGET_ TOO_LONG UNSUPPORTED WRONG_KEY_COLUMN WRONG_TABLESPACE"
    ),
    "bulk loading, other places of storage": ("BULK IMP_ INNODB_REDO LH_ LOAD_BULK"),
    "accounts and their administration": (
        "ACCESS_DENIED_FIREWALL AUTHENTICATION_POLICY CANNOT_GRANT CANNOT_USER CREDENTIALS "
        "CURRENT_PASSWORD DB_ACCESS IDENTIFIED ILLEGAL INCORRECT_CURRENT INVALID_MFA INVALID_PLUGIN "
        "INVALID_USER KERBEROS MFA MISSING_CURRENT PARTIAL_REVOKE PASSWORD_CANNOT ROLE_GRANTED "
        "SECOND_PASSWORD SET_PASSWORD UKNOWN_AUTH UNKNOWN_AUTHID USER_ VALIDATE_PASSWORD"
    ),
    "the server's administration, its plugins and its log": (
        "AUDIT_LOG CANNOT_LOG CANNOT_PERSIST CANT_ CAPACITY CLIENT_ COMMAND COMPONENT DA_ INSTALL "
        "INVALID_THREAD I_S_ KEYRING LOCK_REFUSED MASTER_KEY NO_SECURE PERSIST_ONLY PLUGIN_ RELOAD "
        "RESOURCE_GROUP SLOW_LOG VAR_DOES WARN"
    ),
    "the statement's own": ("CORRUPTED_JSON FULLTEXT_WITH REGEXP"),
}
BELONGS = tuple(name for names in BELONGS_TO.values() for name in names.split())
# Below 1000 are the operating system's errors and the storage engines', which servers mostly wrap in others.
WRAPPED = {
    "no read does this": (6, 7, 8, 11, 16, 17, 18, 19, 21, 24, 25, 26, 30, 31, 32),
    "it is about programs and their options": tuple(range(35, 95)),
    "no error of storage": (22, 28),
    # MyISAM and Aria pass on those of the table as they are.
    "a storage engine's, which the server wraps in 1030 or another number": tuple(range(120, 210)),
}


def known(server: str) -> set[int]:
    rows = [row for rows in (*TABLE.values(), NOT_LET_IN) for row in rows]
    return {row.number for row in rows if row.server in (None, server)}


@pytest.mark.parametrize("server", get_args(Server))
def test_every_number_of_the_classes_is_in_the_table_or_has_a_reason(server: str) -> None:
    forgotten = []
    for entry in catalogue(server).values():
        classes = [name for name, words in CLASSES.items() if re.search(words, entry.text, re.IGNORECASE)]
        placed = entry.number in known(server) or entry.number in EXEMPT
        placed = placed or (entry.number >= 3000 and (entry.obsolete or entry.name.startswith(BELONGS)))
        if classes and not placed:
            forgotten.append((entry, classes))
    assert not forgotten


def test_every_number_of_the_system_that_speaks_of_storage_is_in_the_table_or_has_a_reason() -> None:
    exempt = {number for numbers in WRAPPED.values() for number in numbers}
    forgotten = [
        (number, text)
        for number, text in _below_1000().items()
        if re.search(CLASSES["storage"] + "|room|checksum|too short|format", text, re.IGNORECASE)
        and number not in known("mysql") | exempt
    ]
    assert not forgotten


@cache
def _below_1000() -> dict[int, str]:
    numbers = [str(number) for number in range(1, 1000)]
    line = re.compile(r"^MySQL error code MY-0*(\d+)(?: \(handler\))?: (.*)$", re.MULTILINE)
    found = {int(number): text for number, text in line.findall(_perror(numbers))}
    assert len(found) > 100
    return found


@pytest.mark.parametrize("server", get_args(Server))
def test_a_row_holds_for_the_servers_that_it_says(server: str) -> None:
    """Where it says one server, the other has no such number, or means something else by it."""
    entries = catalogue(server)
    wrong = []
    for row in (row for rows in (*TABLE.values(), NOT_LET_IN) for row in rows):
        if row.number < 1000 or 2000 <= row.number < 3000:
            continue
        entry = entries.get(row.number)
        if row.server in (None, server):
            named = entry is not None and entry.name in ("", row.name)
            if not named and (row.server == server or row.number < 1900):
                wrong.append((row, entry))
        elif entry is not None and entry.name == row.name:
            wrong.append((row, entry))
    assert not wrong


def test_the_drivers_own_numbers_have_the_drivers_names() -> None:
    names = {number: name.removeprefix("CR_") for name, number in vars(CR).items() if name.startswith("CR_")}
    rows = [row for rows in (*TABLE.values(), NOT_LET_IN) for row in rows if 2000 <= row.number < 3000]
    assert {row.number: row.name for row in rows} == {row.number: names[row.number] for row in rows}


def test_each_reason_is_needed() -> None:
    """A number that left the catalogues, or came into the table, leaves the list."""
    spoken = {
        entry.number
        for server in get_args(Server)
        for entry in catalogue(server).values()
        if any(re.search(words, entry.text, re.IGNORECASE) for words in CLASSES.values())
        and entry.number not in known(server)
    }
    assert spoken >= EXEMPT
