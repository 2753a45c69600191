"""Replicas that cannot work are refused when they are given."""

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
