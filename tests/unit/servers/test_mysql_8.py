"""MySQL 8.0 and 8.4 understand what the library sends and reports what it reads, by their manuals alone.

Neither could be had here, so no test ran on them. Members of the kind: every variable, function and statement
that the dialect sends (taken from its texts, so that a new one needs a line here), and every column and
spelling in which a release answers. Built-in functions and words of the grammar by release are in
`tests/unit/statements/test_server_versions.py`, error numbers in `test_error_meanings.py`.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from pymysql.err import ProgrammingError

from peewee_replicas.nodes.interview import Answers, Questionnaire, facts, interview
from peewee_replicas.positions import MySQLPosition
from peewee_replicas.servers import mysql
from peewee_replicas.testing.replication_sql import STATEMENTS

# The first release of 8.0 or an earlier series that has it, from the manuals of 5.7 and 8.0; none of them is
# gone in 8.4 or 9.
SINCE = {
    "autocommit": "5.0", "gtid_executed": "5.6.5", "gtid_mode": "5.6.5", "gtid_owned": "5.6.5",
    "group_replication_group_name": "5.7.17", "member_id": "5.7.17", "member_role": "8.0.2",
    "member_state": "5.7.17", "performance_schema": "5.5", "replication_group_members": "5.7.17",
    "hostname": "5.0.38", "innodb_read_only": "5.6.7",
    "max_execution_time": "5.7.8", "offline_mode": "5.7.5", "port": "5.0", "read_only": "5.0",
    "server_id": "5.0", "server_uuid": "5.6.0", "session_track_gtids": "5.7.6",
    "session_track_state_change": "5.7.4", "session_track_transaction_info": "5.7.8",
    "sql_big_selects": "5.0", "sql_mode": "5.0",
    "sql_select_limit": "5.0", "time_zone": "5.0", "transaction_isolation": "5.7.20",
    "transaction_read_only": "5.7.20", "wait_timeout": "5.0",
    "CONCAT_WS": "5.0", "WAIT_FOR_EXECUTED_GTID_SET": "5.7.5",
}  # fmt: skip
# Words of the grammar and values.
GRAMMAR = set(
    """AND AS COMMITTED CONSISTENT DO FROM GLOBAL IN ISOLATION LEVEL LIKE OFF ON ONLY OWN_GTID READ REPEATABLE
    REPLICA SELECT SESSION SET SHOW SLAVE SNAPSHOT START STATE STATUS TRANSACTION VARIABLES WHERE WITH WRITE
    Variable_name _latin1 max_allowed_packet role seconds state""".split()  # noqa: SIM905
)

FIRST_STABLE = (8, 0, 11)


def texts() -> set[str]:
    """Every statement of the dialect, or part of one."""
    found = {mysql.wait("", 1.0), mysql.settle("", 1.0)}
    for name, value in vars(mysql).items():
        if name.isupper() and name not in ("NAME", "WITHOUT_GTIDS") and not isinstance(value, bool):
            found.update([value] if isinstance(value, str) else value)
    return found


def test_mysql_8_has_everything_that_the_dialect_sends() -> None:
    words = {word for text in texts() for word in re.findall(r"[A-Za-z_]\w+", text)}
    assert words - GRAMMAR - set(SINCE) == set(), "look up since which release MySQL has these"
    assert set(SINCE) - words <= {"autocommit"}
    late = {n for n, since in SINCE.items() if tuple(map(int, since.split("."))) > FIRST_STABLE}
    assert not late


# What a release answers to the statements that list replication channels, by the manuals.
SPELLINGS = {
    "8.0.11": {"SHOW SLAVE STATUS"},
    "8.0.21": {"SHOW SLAVE STATUS"},
    "8.0.22": {"SHOW SLAVE STATUS", "SHOW REPLICA STATUS"},
    "8.3.0": {"SHOW SLAVE STATUS", "SHOW REPLICA STATUS"},
    "8.4.0": {"SHOW REPLICA STATUS"},
    "9.7.4": {"SHOW REPLICA STATUS"},
}
UUID = "00000000-0000-0000-0000-000000000001"
VARIABLES = {
    "server_uuid": UUID, "server_id": "2", "hostname": "h", "port": "3306", "read_only": "ON",
    "offline_mode": "OFF", "innodb_read_only": "OFF", "gtid_mode": "ON", "gtid_executed": f"{UUID}:1-9",
    "gtid_owned": "",
}  # fmt: skip
REPLICA = {
    "Source_Host": "db1", "Source_Port": 3306, "Source_Server_Id": 1, "Source_UUID": UUID,
    "Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes", "Seconds_Behind_Source": 3,
    "Last_IO_Error": "", "Last_SQL_Error": "", "Channel_Name": "",
}  # fmt: skip
SLAVE = {
    name.replace("Source", "Master").replace("Replica", "Slave"): value for name, value in REPLICA.items()
}
UNKNOWN = ProgrammingError(1064, "You have an error in your SQL syntax")


@pytest.mark.parametrize("release", SPELLINGS)
def test_replication_is_read_in_the_words_of_each_release(release: str) -> None:
    questionnaire = Questionnaire(None)
    for _ in range(2):  # the second time it asks in the right words at once
        talk = interview(mysql, questionnaire, None, 0.2)
        question, refused = next(talk), 0
        answer: Any
        try:
            while True:
                if question == mysql.PROBE:
                    answer = [{"Variable_name": name, "Value": value} for name, value in VARIABLES.items()]
                elif question in SPELLINGS[release]:
                    answer = [REPLICA if "REPLICA" in question else SLAVE]
                else:
                    answer, refused = UNKNOWN, refused + 1
                question = talk.send(answer)
        except StopIteration as last:
            answers: Answers = last.value
    assert refused == 0
    told = facts(answers, mysql)
    assert told.channels is not None
    (channel,) = told.channels
    assert (channel.receives, channel.applies, channel.behind) == (True, True, 3.0)
    assert (str(channel.source), channel.source.server_id, channel.source.uuid) == ("db1:3306", "1", UUID)
    assert told.position == told.sample == MySQLPosition.parse(f"{UUID}:1-9")


def test_a_local_cluster_speaks_the_words_of_8_0_23_and_later() -> None:
    statements = vars(STATEMENTS["mysql"]).values()
    assert not [text for text in statements if re.search("SLAVE|MASTER", text)]  # 8.4 has lost these
