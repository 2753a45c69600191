"""What the answers of a probe mean."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from pymysql.err import OperationalError, ProgrammingError

from peewee_replicas.nodes.fitness import Evidence, assess, primary_remark, role_change
from peewee_replicas.nodes.interview import (
    Answers,
    Channel,
    Facts,
    Questionnaire,
    Source,
    channel,
    facts,
    heartbeats,
    interview,
)
from peewee_replicas.nodes.lag import Samples, heartbeat_lag, lag_bound
from peewee_replicas.nodes.upstream import Upstream
from peewee_replicas.positions import MariaDBPosition, MySQLPosition
from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.servers.identity import ServerIdentity

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"

A = ServerIdentity("", "1", "a", "3306")
B = ServerIdentity("", "2", "b", "3306")
C = ServerIdentity("", "3", "c", "3306")
TO_A = Source("a", "3306", "1")
FOLLOWING = Channel(True, True, 0.0, "", TO_A)


def at(text: str) -> MariaDBPosition:
    return MariaDBPosition.parse(text)


def node(**changed: Any) -> Facts:
    told = Facts(
        server=B, read_only=True, offline=False, member=False, position=at("0-1-5"),
        sample=at("0-1-5"), channels=(FOLLOWING,), beats=None, variables={}, dialect=mariadb,
    )  # fmt: skip
    return told._replace(**changed)


def primary(*samples: tuple[float, str]) -> Samples:
    found = Samples()
    for when, text in samples:
        found.add(when, when + 0.01, node(server=A, sample=at(text)))
    return found


def verdict(told: Facts, *, max_lag: float | None = 10.0, **changed: Any) -> Any:
    given: dict[str, Any] = {
        "is_primary": False,
        "listed": False,
        "primary": "the primary (a:3306)",
        "primary_answers": True,
        "upstream": Upstream("primary" if told.channels else "unclear", told.channels or ()),
        "lag": 0.1,
        "doubt": "",
    }
    return assess(Evidence(told, **{**given, **changed}), max_lag)


STOPPED = Channel(True, False, None, "Duplicate entry", TO_A)
DEAF = Channel(False, True, None, "", TO_A)
UNTOLD = None


@pytest.mark.parametrize(
    ("told", "changed", "state", "role", "cause"),
    [
        (node(), {}, "up", "replica", ""),
        (node(), {"lag": 10.1}, "lagging", "replica", "10.1 s behind, more than max_lag=10.0"),
        (node(), {"lag": 10.1, "max_lag": None}, "up", "replica", ""),
        (node(), {"lag": None}, "up", "replica", ""),
        # Where nothing is known of its lag but that it was not seen to get there, it is not used.
        (node(channels=UNTOLD), {"lag": None, "doubt": "it is new"}, "lagging", "replica", "not known"),
        (node(), {"lag": None, "doubt": "it is new"}, "up", "replica", ""),
        (
            node(channels=(Channel(True, True, 3600.0, "", TO_A),)),
            {"lag": None},
            "lagging",
            "replica",
            "3600.0 s",
        ),
        (node(channels=UNTOLD), {"lag": None, "doubt": "it is new", "max_lag": None}, "up", "replica", ""),
        # Stopped replication has no lag, which is not the same as 0.
        (node(channels=(STOPPED,)), {}, "unfit", "replica", "nothing is applied: Duplicate entry"),
        (node(channels=(STOPPED,)), {"max_lag": None}, "unfit", "replica", "nothing is applied"),
        (node(channels=(DEAF,)), {}, "unfit", "replica", "nothing is received"),
        (node(channels=(FOLLOWING, DEAF)), {}, "unfit", "replica", "nothing is received"),
        (node(channels=(DEAF,)), {"primary_answers": False}, "up", "replica", ""),
        (node(channels=()), {}, "unfit", "detached", "replicates from nobody"),
        (node(channels=(), read_only=False), {}, "unfit", "detached", "was it promoted?"),
        (node(channels=(), member=True), {}, "up", "member", ""),
        (node(channels=(), member=True, group_state="ONLINE"), {}, "up", "member", ""),
        (node(channels=(), member=True, group_state="RECOVERING"), {}, "unfit", "member", "RECOVERING"),
        (node(channels=(), member=True, group_state="ERROR"), {}, "unfit", "member", "ERROR"),
        (node(channels=(), member=True, group_state="UNREACHABLE"), {}, "unfit", "member", "UNREACHABLE"),
        (node(channels=UNTOLD, read_only=False), {"own": "0-2-6"}, "unfit", "detached", "of its own"),
        # A stray write by an administrator, or a ring of primaries.
        (node(channels=UNTOLD), {"own": "0-2-6"}, "up", "replica", ""),
        (node(read_only=False), {"own": "0-2-6"}, "up", "replica", ""),
        (node(offline=True), {}, "unfit", "replica", "offline_mode"),
        (node(offline=True), {"is_primary": True}, "unfit", "primary", "offline_mode"),
        (node(channels=()), {"is_primary": True}, "up", "primary", ""),
    ],
)
def test_which_facts_keep_a_node_out_of_rotation(
    told: Facts, changed: dict[str, Any], state: str, role: str, cause: str
) -> None:
    found = verdict(told, **changed)
    assert (found.state, found.role) == (state, role)
    assert cause in found.cause
    assert bool(found.cause) == (state != "up")


FOREIGN = Channel(True, False, None, "gone", Source("c", "3306"), name="reports")
OURS = Upstream("primary", (STOPPED,))
HERE = Upstream("primary", (FOLLOWING,))


@pytest.mark.parametrize(
    ("told", "changed", "state", "cause"),
    [
        (node(channels=(FOLLOWING, FOREIGN)), {"upstream": HERE}, "up", ""),
        (node(channels=(STOPPED, FOREIGN)), {"upstream": OURS}, "unfit", f"(the channel from {TO_A})"),
        (node(channels=(FOREIGN,)), {}, "unfit", "(channel 'reports', from c:3306)"),
        (
            node(channels=(FOLLOWING, FOREIGN._replace(behind=99.0))),
            {
                "lag": None,
                "upstream": Upstream("unclear", (FOLLOWING, FOREIGN._replace(behind=99.0, applies=True))),
            },
            "lagging",
            "99.0 s behind (channel 'reports', from c:3306)",
        ),
        # Sequence numbers of both sources count in one domain.
        (
            node(channels=(FOLLOWING, FOREIGN)),
            {"upstream": HERE, "others": "0-7-9"},
            "unfit",
            "gtid_domain_id",
        ),
        (node(), {"others": "0-7-9"}, "up", ""),
        (
            node(channels=(FOLLOWING, FOREIGN), dialect=mysql),
            {"upstream": HERE, "others": "3e11fa47-71ca-11e1-9e33-c80aa9429562:9"},
            "up",
            "",
        ),
    ],
)
def test_of_several_channels_those_count_that_carry_the_primarys_data(
    told: Facts, changed: dict[str, Any], state: str, cause: str
) -> None:
    found = verdict(told, **changed)
    assert found.state == state
    assert cause in found.cause
    assert bool(found.cause) == (state != "up")


@pytest.mark.parametrize(
    ("told", "changed", "said"),
    [
        (node(channels=UNTOLD), {}, "REPLICATION CLIENT"),
        (node(channels=(), member=True), {}, "heartbeat_table"),
        (node(channels=UNTOLD), {"unmeasured": False}, ""),  # positions will show it
        (node(), {}, ""),  # the server will report it, once it has connected
        (node(channels=UNTOLD), {"lag": 0.1}, ""),
        (node(channels=UNTOLD), {"max_lag": None}, ""),
    ],
)
def test_a_bound_that_cannot_have_an_effect_is_remarked(
    told: Facts, changed: dict[str, Any], said: str
) -> None:
    found = verdict(told, **{"lag": None, "unmeasured": True, **changed})
    assert found.state == "up"
    assert said in found.remark
    assert bool(found.remark) == bool(said)


@pytest.mark.lesson(18)
def test_stopped_replication_has_no_lag() -> None:
    assert verdict(node(channels=(STOPPED,))).lag is None


@pytest.mark.parametrize(
    ("told", "changed", "remark"),
    [
        (node(), {}, ""),
        (node(read_only=False), {}, "read_only=OFF"),
        (node(read_only=False, member=True), {}, ""),
        (node(), {"is_primary": True}, "the primary itself"),
        (node(), {"is_primary": True, "listed": True}, ""),
    ],
)
def test_which_facts_are_only_reported(told: Facts, changed: dict[str, Any], remark: str) -> None:
    found = verdict(told, **changed)
    assert found.state == "up"
    assert remark in found.remark
    assert bool(found.remark) == bool(remark)


# Lag


def test_lag_is_the_age_of_the_newest_sample_that_was_reached() -> None:
    samples = primary((1.0, "0-1-5"), (2.0, "0-1-9"), (3.0, "0-1-12"))
    assert samples.reached(at("0-1-4")) is None
    assert samples.reached(at("0-1-5")) == 1.0
    assert samples.reached(at("0-1-11")) == 2.0
    assert samples.reached(at("0-1-12")) == 3.0
    assert samples.reached(MySQLPosition()) is None
    assert lag_bound(2.0, 3.5, samples) == 1.5


def test_an_idle_primary_makes_nobody_late() -> None:
    samples = primary(*((float(second), "0-1-5") for second in range(1000)))
    assert samples.reached(at("0-1-5")) == 999.0
    assert lag_bound(999.0, 999.02, samples) == pytest.approx(0.02)


def test_lag_stands_still_while_the_primary_cannot_be_asked() -> None:
    samples = primary((1.0, "0-1-5"), (2.0, "0-1-9"))
    samples.miss()
    assert lag_bound(1.0, 500.0, samples) == pytest.approx(1.01)
    assert lag_bound(2.0, 500.0, samples) == pytest.approx(0.01)  # it has caught up with all there is


def test_old_samples_are_thinned_out_and_never_flatter() -> None:
    samples = primary(*((float(n), f"0-1-{n}") for n in range(1, 5000)))
    for n in (4999, 4990, 4500, 3000):
        found = samples.reached(at(f"0-1-{n}"))
        assert found is None or found <= n
    assert samples.reached(at("0-1-4990")) == 4990.0


def test_another_primary_has_samples_of_its_own() -> None:
    samples = primary((1.0, "0-1-5"))
    samples.add(2.0, 2.0, node(server=C, sample=at("0-3-9")))
    assert samples.reached(at("0-1-5")) is None
    assert samples.reached(at("0-3-9")) == 2.0


def test_a_primary_without_positions_gives_no_samples() -> None:
    samples = Samples()
    samples.add(1.0, 1.0, node(sample=None))
    assert samples.oldest is None
    assert samples.answers


@pytest.mark.parametrize(
    ("mine", "theirs", "lag"),
    [
        ({"1": 10.5}, {"1": 7.25}, 3.25),
        ({"1": 10.5}, {"1": 10.5}, 0.0),
        ({"1": 10.5}, {"1": 11.5}, 0.0),  # asked a moment later
        ({"1": 1.0, "2": 10.0}, {"1": 1.0, "2": 4.0}, 6.0),  # server 1 beats no more
        ({"1": 10.0}, {"2": 10.0}, None),
        ({}, {"1": 1.0}, None),
        (None, {"1": 1.0}, None),
        ({"1": 1.0}, None, None),
    ],
)
def test_lag_by_heartbeats(mine: Any, theirs: Any, lag: float | None) -> None:
    def beats(given: Any) -> Any:
        return None if given is None else {key: datetime.fromtimestamp(1e9 + n) for key, n in given.items()}

    assert heartbeat_lag(beats(mine), beats(theirs)) == lag


def test_heartbeats_of_every_column_type_are_read() -> None:
    rows = [
        {"server_id": 1, "ts": "2026-11-20T13:00:03.001230"},
        {"server_id": 2, "ts": "2026-11-20 13:00:03"},
        {"server_id": 3, "ts": datetime(2026, 11, 20, 13, 0, 3)},
        {"server_id": 4, "ts": "yesterday"},
        {"server_id": 5, "ts": None},
    ]
    found = heartbeats(rows)
    assert found["1"] == datetime(2026, 11, 20, 13, 0, 3, 1230)
    assert found["2"] == found["3"] == datetime(2026, 11, 20, 13, 0, 3)
    assert set(found) == {"1", "2", "3"}


# The servers' words


@pytest.mark.parametrize("words", [("Slave", "Master"), ("Replica", "Source")])
@pytest.mark.parametrize(
    ("receives", "applies", "behind", "found"),
    [
        ("Yes", "Yes", 3, Channel(True, True, 3.0, "gone; broken", Source("a", "3306"))),
        ("Connecting", "Yes", None, Channel(True, True, None, "gone; broken", Source("a", "3306"))),
        ("Preparing", "Yes", None, Channel(True, True, None, "gone; broken", Source("a", "3306"))),
        ("No", "Yes", None, Channel(False, True, None, "gone; broken", Source("a", "3306"))),
        ("Yes", "No", None, Channel(True, False, None, "gone; broken", Source("a", "3306"))),
    ],
)
def test_the_state_of_a_channel_under_old_and_new_column_names(
    words: tuple[str, str], receives: str, applies: str, behind: Any, found: Channel
) -> None:
    replica, source = words
    row = {
        f"{replica}_IO_Running": receives,
        f"{replica}_SQL_Running": applies,
        f"Seconds_Behind_{source}": behind,
        f"{source}_Host": "a",
        f"{source}_Port": 3306,
        "Last_IO_Error": "gone",
        "Last_SQL_Error": "broken",
    }
    assert channel(row) == found


def test_facts_are_read_from_mysqls_answers() -> None:
    variables = {
        "server_uuid": UUID, "server_id": "7", "hostname": "h", "port": "3306",
        "read_only": "ON", "offline_mode": "OFF", "gtid_mode": "ON",
        "innodb_read_only": "OFF", "group_replication_group_name": "",
        "gtid_executed": f"{OTHER}:1-9,\n{UUID}:1-2",
    }  # fmt: skip
    told = facts(Answers(variables, None), mysql)
    assert (told.server, told.read_only, told.offline) == (
        ServerIdentity(UUID, "7", "h", "3306"),
        True,
        False,
    )
    assert told.position == told.sample == MySQLPosition.parse(f"{OTHER}:1-9,{UUID}:1-2")
    assert not told.member
    old = facts(Answers({**variables, "gtid_mode": "OFF", "offline_mode": "ON"}, []), mysql)
    assert (old.position, old.sample, old.offline, old.channels) == (None, None, True, ())
    group = facts(Answers({**variables, "group_replication_group_name": OTHER}, []), mysql)
    assert group.member


def test_facts_are_read_from_mariadbs_answers() -> None:
    variables = {
        "server_id": "2", "hostname": "h", "port": "3306",
        "read_only": "OFF", "log_bin": "ON", "wsrep_on": "OFF",
        "innodb_read_only": "OFF", "gtid_slave_pos": "0-1-5", "gtid_binlog_pos": "0-2-6,1-1-3",
    }  # fmt: skip
    told = facts(Answers(variables, None), mariadb)
    assert (told.position, told.sample) == (at("0-1-5"), at("0-2-6,1-1-3"))
    assert told.server == ServerIdentity("", "2", "h", "3306")
    assert not told.read_only
    assert facts(Answers({**variables, "log_bin": "OFF"}, None), mariadb).sample is None
    assert facts(Answers({**variables, "wsrep_on": "ON"}, None), mariadb).member
    # MariaDB 12 has values besides OFF and ON.
    assert facts(Answers({**variables, "read_only": "NO_LOCK"}, None), mariadb).read_only


# Asking


def asked(
    dialect: Any, questionnaire: Questionnaire, answers: list[Any], target: Any = None
) -> tuple[list[str], Any]:
    talk = interview(dialect, questionnaire, target, 0.2)
    questions = [next(talk)]
    try:
        for answer in answers:
            questions.append(talk.send(answer))
    except StopIteration as last:
        return questions, last.value
    raise AssertionError(questions)


def rows(**variables: str) -> list[dict[str, str]]:
    return [{"Variable_name": name, "Value": value} for name, value in variables.items()]


DENIED = OperationalError(1227, "Access denied")
UNKNOWN = ProgrammingError(1064, "You have an error in your SQL syntax")


@pytest.mark.parametrize("dialect", [mysql, mariadb])
def test_a_user_without_the_privilege_is_not_asked_for_twice(dialect: Any) -> None:
    asking = Questionnaire(None)
    questions, answers = asked(dialect, asking, [rows(server_id="1"), DENIED])
    assert answers.channels is None
    assert not any(question.startswith("SELECT") for question in questions)
    questions, answers = asked(dialect, asking, [rows(server_id="1")])
    assert questions == [dialect.PROBE]


def test_an_old_server_is_asked_in_its_own_syntax() -> None:
    asking = Questionnaire(None)
    questions, answers = asked(mysql, asking, [rows(server_id="1"), UNKNOWN, []])
    assert questions[1:] == list(mysql.CHANNELS)
    assert answers.channels == []
    questions, _ = asked(mysql, asking, [rows(server_id="1"), []])
    assert questions[1:] == [mysql.CHANNELS[1]]


def test_a_node_is_given_time_to_reach_the_primary() -> None:
    questions, _ = asked(mariadb, Questionnaire(None), [[], rows(server_id="1"), []], at("0-1-5"))
    assert questions[0] == "DO MASTER_GTID_WAIT(_latin1'0-1-5', 0.200)"


def test_a_long_value_is_asked_for_whole() -> None:
    short, whole = f"{UUID}:" + "1" * 987, f"{UUID}:1-5"
    questions, answers = asked(
        mysql, Questionnaire(None), [rows(gtid_executed=short), [{"value": whole}], DENIED]
    )
    assert questions[1] == "SELECT @@GLOBAL.gtid_executed AS value"
    assert answers.variables["gtid_executed"] == whole


def test_a_heartbeat_table_that_cannot_be_read_is_said() -> None:
    asking = Questionnaire("tools.beat")
    missing = ProgrammingError(1146, "no such table")
    questions, answers = asked(mariadb, asking, [rows(server_id="1"), DENIED, missing])
    assert questions[2] == "SELECT server_id, ts FROM `tools`.`beat`"
    assert answers.heartbeats is None
    assert "no such table" in asking.complaint


def test_a_node_that_answers_nothing_is_an_error() -> None:
    with pytest.raises(OperationalError):
        asked(mariadb, Questionnaire(None), [DENIED])


@pytest.mark.parametrize(
    ("changed", "server", "read_only", "words"),
    [
        ({}, None, None, ""),
        ({}, B, False, "is read-only now"),
        ({}, B, True, ""),
        ({}, B, None, ""),
        ({}, A, True, "is another server now"),
        ({"read_only": False}, B, True, ""),
        ({"read_only": False}, B, False, ""),
        ({"read_only": False}, A, False, "is another server now"),
        ({"read_only": False, "member": True}, A, False, ""),
    ],
)
def test_what_tells_that_the_roles_have_changed(
    changed: Any, server: Any, read_only: Any, words: str
) -> None:
    assert role_change(node(**changed), server, read_only) == words


def following(relation: Any, **changed: Any) -> Any:
    """The verdict on a replica whose source has this relation to the primary."""
    told = node(channels=(Channel(True, True, 0.0, "", TO_A),))
    return verdict(told, upstream=Upstream(relation, told.channels or ()), **changed)


@pytest.mark.parametrize(
    ("relation", "changed", "expected"),
    [
        ("primary", {"others": "uuid:1-5"}, "up"),
        ("other", {}, "unfit"),
        ("unlisted", {"proven": True}, "up"),
        ("unlisted", {"proven": False}, "unfit"),
        ("unlisted", {"proven": True, "others": "uuid:1-5"}, "unfit"),
        ("unclear", {"proven": False}, "up"),
        ("unclear", {"others": "0-9-3"}, "unfit"),  # on MariaDB both servers may have used these numbers
    ],
)
def test_whom_a_node_follows_decides_whether_it_serves(relation: Any, changed: Any, expected: str) -> None:
    found = following(relation, **changed)
    assert found.state == expected
    if expected == "unfit":
        assert found.role == "detached"
        assert "and not from the primary (a:3306)" in found.cause


@pytest.mark.parametrize("relation", ["unlisted", "unclear"])
def test_a_nodes_own_lag_counts_only_if_its_source_is_the_primary(relation: Any) -> None:
    assert following("primary", lag=None, doubt="it is new").lag == 0.0
    found = following(relation, lag=None, doubt="it is new", proven=True)
    assert (found.state, found.lag) == ("lagging", None)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"own": "uuid:1-5"}, "transactions of its own that the primary does not have (uuid:1-5)"),
        ({"others": "uuid:1-5"}, "has transactions that the primary does not have (uuid:1-5)"),
        ({"twin": "replica-1"}, "is the same server as replica-1"),
    ],
)
def test_what_keeps_no_reads_away_is_remarked(changed: Any, words: str) -> None:
    found = following("primary", **changed)
    assert found.state == "up"
    assert words in found.remark
    assert words not in following("primary").remark


def test_a_primary_that_is_itself_a_replica_is_remarked() -> None:
    told = node(channels=(Channel(True, True, 0.0, "", TO_A),), read_only=True)
    assert "is a replica of" in primary_remark(told)
    assert primary_remark(told._replace(read_only=False)) == ""


def test_without_the_privilege_numbers_that_the_primary_lacks_tell_of_another_primary() -> None:
    found = verdict(node(channels=None), others="0-9-3")
    assert (found.state, found.role) == ("unfit", "detached")
    assert "seems to follow another server than the primary (a:3306)" in found.cause
    assert verdict(node(channels=None)).state == "up"


@pytest.mark.parametrize(
    ("group", "channels", "member", "state"),
    [
        ([{"state": "RECOVERING", "role": "SECONDARY"}], [], True, "RECOVERING"),
        ([], [], True, "OFFLINE"),
        ([{"state": "OFFLINE", "role": ""}], [{"Source_Host": "a", "Source_Port": 3306}], False, "OFFLINE"),
        (None, [], True, ""),  # this user may not see it
    ],
)
def test_the_state_of_a_member_of_a_replication_group(
    group: Any, channels: Any, member: bool, state: str
) -> None:
    variables = {"group_replication_group_name": "g", "server_id": "1", "gtid_mode": "OFF"}
    found = facts(Answers(variables, channels, None, group), mysql)
    assert (found.member, found.group_state) == (member, state)
