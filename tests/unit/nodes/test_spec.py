"""Replicas that cannot work are refused when they are given.

The wrong ways to say where a node is were listed from what a driver takes for a host: several in one text, a
port, brackets, a URL, a socket's path, a user; each as a dict, as a text and inside of a URL, and for the
primary. The right ones are names, addresses of both kinds, with a zone too, and names of other scripts.
"""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas import ConfigurationError, ReplicatedDatabase


def test_a_url_of_another_kind_of_server_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="postgres"):
        ReplicatedDatabase("app", replicas=["postgres://replica.db/app"])


def test_what_peewee_sets_itself_is_refused_in_a_replica() -> None:
    with pytest.raises(ConfigurationError, match="autocommit"):
        ReplicatedDatabase("app", replicas=[{"host": "replica.db", "autocommit": False}])


@pytest.mark.parametrize("url", ["mysql://replica.db:3307/app", "mariadb://replica.db:3307"])
def test_urls_of_replicas(url: str) -> None:
    database = ReplicatedDatabase("app", host="primary.db", replicas=[url])
    assert [replica.address for replica in database.replicas] == ["replica.db:3307"]


@pytest.mark.parametrize(
    "replica",
    [
        {"host": None},
        {"host": ""},
        {"host": 5},
        {"host": "a", "port": "3306"},
        {"host": "a", "port": 0},
        {"host": "a", "port": 65536},
        {"host": "a", "port": True},
        "a:70000",
        "mysql://a:x/app",
    ],
)
def test_a_replica_that_would_lead_nowhere_or_to_localhost_is_refused_by_name(replica: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"replicas\[0\]"):
        ReplicatedDatabase("app", host="p", replicas=[replica])


def test_a_name_that_is_anothers_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="two are called 'b:3306'"):
        ReplicatedDatabase("app", host="p", replicas=[{"name": "b:3306", "host": "x"}, {"host": "b"}])


SEVERAL = "an item of its own.*replica=a&replica=b"
APART = "two parameters"
WRONG_HOSTS = [
    ("a,b", SEVERAL),
    ("a:3306,b:3306", SEVERAL),
    ("a:3306", APART),
    ("[::1]:3306", APART),
    ("[::1]", "no brackets"),
    ("mysql://a", "not a URL"),
    ("/run/mysqld.sock", "unix_socket"),
    ("app@a", "without a user"),
    ("a b", "spaces"),
    ("a/app", "path"),
    ("a;b", "only a name"),
    ("::1:x", "only a name"),
]


@pytest.mark.parametrize(("host", "words"), WRONG_HOSTS)
def test_a_host_that_is_more_than_a_host_is_refused_with_a_hint(host: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"replicas\[0\].*{words}"):
        ReplicatedDatabase("app", host="p", replicas=[{"host": host}])
    with pytest.raises(ConfigurationError, match=rf"^host: .*{words}"):
        ReplicatedDatabase("app", host=host)
    with pytest.raises(ConfigurationError, match=rf"^host: .*{words}"):
        ReplicatedDatabase(None).init("app", host=host)


@pytest.mark.parametrize("text", ["a,b", "a:3306,b:3307", "mysql://a,b/app", "mysql://u:p@a,b:3306/app"])
def test_several_hosts_in_one_text_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"replicas\[0\].*{SEVERAL}"):
        ReplicatedDatabase("app", host="p", replicas=[text])


@pytest.mark.parametrize(
    "text", ["", ":3306", "[]", "[x]:3306", "[::1", "a:b", "a:", "app:pw@a", "a b", "a//b"]
)
def test_a_text_that_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"replicas\[0\].*'host:port'"):
        ReplicatedDatabase("app", host="p", replicas=[text])


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"host": "::1"}, "::1:3307"),
        ({"host": "fe80::1%eth0", "port": 3310}, "fe80::1%eth0:3310"),
        ({"host": "10.0.0.1"}, "10.0.0.1:3307"),
        ({"host": "a_b.example."}, "a_b.example.:3307"),
        ({"host": "bücher.example"}, "bücher.example:3307"),
        ("::1", "::1:3307"),
        ("fe80::2", "fe80::2:3307"),
        ("[::1]", "::1:3307"),
        ("[::1]:3310", "::1:3310"),
        (" r1:3310 ", "r1:3310"),
        ("mysql://[::1]:3310/app", "::1:3310"),
        ("mysql://[fe80::3]", "fe80::3:3307"),
    ],
)
def test_names_and_addresses_are_taken(given: Any, address: str) -> None:
    database = ReplicatedDatabase("app", host="2001:db8::1", port=3307, replicas=[given])
    assert [replica.address for replica in database.replicas] == [address]


@pytest.mark.parametrize("port", ["3306", -1, 65536, 1.5, True])
def test_a_primarys_port_that_no_driver_takes_is_refused(port: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^port="):
        ReplicatedDatabase("app", host="p", port=port)


@pytest.mark.parametrize("given", [{}, {"host": None}, {"port": None}, {"port": 0}, {"host": ""}])
def test_a_primary_may_leave_its_place_to_the_driver(given: dict[str, Any]) -> None:
    assert ReplicatedDatabase("app", **given).database == "app"


def test_a_generator_of_replicas_is_kept_for_later() -> None:
    database = ReplicatedDatabase("app", host="p", replicas=(f"r{number}" for number in (1, 2)))
    database.init("other")
    assert [replica.name for replica in database.replicas] == ["r1:3306", "r2:3306"]
