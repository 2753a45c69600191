"""What name servers and database servers answer, read as lists of replicas.

The members are the functions of `peewee_replicas.discover.answers`, each with answers that name nodes,
with members that are left out, and answers that would remove nodes by mistake. Those of Galera, group
replication and Aurora have the form that their documentation shows; no Aurora was at hand.
"""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas.discover import answers
from peewee_replicas.discover.answers import ServiceRecord as SRV


def test_addresses_come_once_and_in_order() -> None:
    found = answers.addresses(["10.0.0.2", "10.0.0.1", "::1", "10.0.0.2"], 3307)
    assert [(each["host"], each["port"]) for each in found] == [
        ("10.0.0.1", 3307), ("10.0.0.2", 3307), ("::1", 3307),
    ]  # fmt: skip
    assert answers.addresses([], 3306) == []


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([], []),
        ([SRV(0, 0, 3306, ".")], []),  # RFC 2782: the service is not to be had
        ([SRV(0, 0, 3306, "a."), SRV(0, 0, 3307, "a.")], [("a", 3306, 1), ("a", 3307, 1)]),
        ([SRV(1, 3, 1, "b."), SRV(1, 1, 1, "a."), SRV(2, 9, 1, "c.")], [("a", 1, 1), ("b", 1, 3)]),
        ([SRV(0, 65535, 1, "a."), SRV(0, 32768, 1, "b."), SRV(0, 0, 1, "c.")],
         [("a", 1, 100), ("b", 1, 50), ("c", 1, 1)]),
        ([SRV(0, 2, 1, "a."), SRV(0, 3, 1, "A."), SRV(0, 3, 1, "A."), SRV(1, 9, 1, "a.")], [("a", 1, 5)]),
    ],
)  # fmt: skip
def test_service_records_of_the_lowest_priority(records: list[SRV], wanted: list[Any]) -> None:
    found = answers.services(records)
    assert [(each["host"], each["port"], each["weight"]) for each in found] == wanted


def replica(number: int, host: str) -> dict[str, Any]:
    return {"Server_Id": number, "Host": host, "Port": "3306", "Source_Id": 1}


def test_replicas_that_a_primary_reports() -> None:
    rows = answers.in_lower_case([replica(2, "r1"), replica(3, "r2")])
    assert answers.reported_replicas(rows) == [{"host": "r1", "port": 3306}, {"host": "r2", "port": 3306}]
    # Such as mysqlbinlog, which reads the binary log as a replica does.
    twice = answers.in_lower_case([replica(2, "r1"), replica(9, "r1")])  # set up anew, with a new number
    assert answers.reported_replicas(twice) == [{"host": "r1", "port": 3306}]
    nameless = answers.in_lower_case([replica(2, "r1"), replica(3, "")])
    assert answers.reported_replicas(nameless) == [{"host": "r1", "port": 3306}]
    with pytest.raises(LookupError, match=r"server_id 3, 4 does not tell .* report_host"):
        answers.reported_replicas(answers.in_lower_case([replica(3, ""), replica(4, "")]))
    assert answers.reported_replicas([]) == []


def member(name: str, role: str, state: str = "ONLINE", me: str = "a") -> dict[str, Any]:
    return {
        "member_id": name, "member_host": f"host-{name}", "member_port": 3306, "member_state": state,
        "member_role": role, "me": me,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([member("a", "PRIMARY"), member("b", "SECONDARY"), member("c", "", "RECOVERING")], ["host-b"]),
        ([member("a", "SECONDARY"), member("b", "PRIMARY")], ["host-a"]),
        ([member("a", "PRIMARY"), member("b", "PRIMARY")], ["host-b"]),
        ([member("a", "PRIMARY")], []),
        ([member("a", "PRIMARY"), member("b", "SECONDARY"), member("c", "", "UNREACHABLE")], ["host-b"]),
    ],
)  # fmt: skip
def test_members_of_a_group(rows: list[Any], wanted: list[str]) -> None:
    assert [each["host"] for each in answers.group_members(rows)] == wanted


@pytest.mark.parametrize(
    "rows", [[], [member("a", "", "OFFLINE")], [member("a", "", "ERROR"), member("b", "PRIMARY")]]
)
def test_a_server_outside_its_group_knows_no_members(rows: list[Any]) -> None:
    with pytest.raises(LookupError, match="no ONLINE member"):
        answers.group_members(rows)


@pytest.mark.parametrize("reached", [1, 2])
def test_a_minority_of_a_group_does_not_tell_who_its_members_are(reached: int) -> None:
    """The others may have gone on with another primary."""
    rows = [member("a", "PRIMARY"), member("b", "SECONDARY")][:reached]
    rows += [member(name, "SECONDARY", "UNREACHABLE") for name in "cde"[: reached + 1]]
    with pytest.raises(LookupError, match="cannot reach the majority"):
        answers.group_members(rows)


def status(addresses: str, index: int = 0, state: str = "Primary") -> list[Any]:
    return answers.in_lower_case([
        {"Variable_name": "wsrep_incoming_addresses", "Value": addresses},
        {"Variable_name": "wsrep_local_index", "Value": str(index)},
        {"Variable_name": "wsrep_cluster_status", "Value": state},
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (status("10.0.0.1:3306,10.0.0.2:3307,[fd00::3]:3306"), [("10.0.0.2", 3307), ("fd00::3", 3306)]),
        (status("10.0.0.1:3306, 10.0.0.2", 0), [("10.0.0.2", 3306)]),
        (status("10.0.0.1:3306,10.0.0.2:3306", 1), [("10.0.0.1", 3306)]),
        (status("10.0.0.1:3306"), []),
        (status("10.0.0.1:3306,,10.0.0.2:3306", 2), [("10.0.0.1", 3306)]),  # an arbitrator between them
    ],
)
def test_members_of_a_galera_cluster(rows: list[Any], wanted: list[Any]) -> None:
    assert [(each["host"], each["port"]) for each in answers.galera_members(rows)] == wanted


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no member of the Galera cluster's primary component"),
        (status("10.0.0.1:3306,10.0.0.2:3306", state="non-Primary"), "no member of the Galera cluster"),
        (status("10.0.0.1:3306,AUTO"), "wsrep_node_incoming_address"),
    ],
)
def test_galera_answers_that_say_too_little(rows: list[Any], words: str) -> None:
    with pytest.raises(LookupError, match=words):
        answers.galera_members(rows)


AURORA = answers.in_lower_case([
    {"SERVER_ID": "app-2", "SESSION_ID": "b3a4e2f0-6b8e-11ee-9c6a-0a1b2c3d4e5f"},
    {"SERVER_ID": "app-1", "SESSION_ID": "MASTER_SESSION_ID"},
    {"SERVER_ID": "app-3", "SESSION_ID": "d1f0a9c2-6b8e-11ee-8f5b-0a1b2c3d4e5f"},
])  # fmt: skip


def test_readers_of_aurora() -> None:
    domain = "abc.eu-west-1.rds.amazonaws.com"
    assert answers.aurora_instances(AURORA, domain) == [
        {"host": f"{name}.{domain}", "name": name} for name in ("app-2", "app-3")
    ]


@pytest.mark.parametrize(
    "first", ["app.cluster-abc", "app.cluster-ro-abc", "app.cluster-custom-abc", "app-1.abc"]
)
@pytest.mark.parametrize("rest", [".eu-west-1.rds.amazonaws.com", ".cn-north-1.rds.amazonaws.com.cn"])
def test_the_domain_of_auroras_instances(first: str, rest: str) -> None:
    assert answers.aurora_domain(first + rest) == f"abc{rest}"


@pytest.mark.parametrize("host", ["db.example.com", "localhost", "10.0.0.1"])
def test_a_name_of_ones_own_tells_no_domain(host: str) -> None:
    with pytest.raises(LookupError, match="give aurora"):
        answers.aurora_domain(host)
