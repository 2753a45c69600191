"""Replicas that cannot work are refused when they are given."""

from __future__ import annotations

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
