"""What of PyMySQL's inside is built upon is looked for before it is used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymysql.connections import MySQLResult

from peewee_replicas import ConfigurationError, ReplicatedDatabase
from peewee_replicas.servers.wire import driver


@pytest.fixture(autouse=True)
def _looked_for_anew() -> Iterator[None]:
    driver.missing.cache_clear()
    yield
    driver.missing.cache_clear()


def test_this_release_has_all_that_is_built_upon() -> None:
    assert driver.missing() == ""


def test_a_release_that_lacks_something_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.delattr(MySQLResult, "_get_descriptions")
        driver.missing.cache_clear()  # a thread of another test may have asked since the test began
        database = ReplicatedDatabase("app", host="127.0.0.1", port=1)
        with pytest.raises(ConfigurationError, match=r"lacks MySQLResult\._get_descriptions; install"):
            database.connect()
