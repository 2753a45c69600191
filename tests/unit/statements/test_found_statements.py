"""Statements that were once taken for reads, and arguments that were once taken at all."""

from __future__ import annotations

from typing import Any

import pytest

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.errors import ConfigurationError
from peewee_replicas.statements.classifier import Classifier


@pytest.mark.parametrize("text", ["SELECT s. currval", "SELECT s . currval", "SELECT s./* x */currval"])
def test_a_sequence_belongs_to_the_session_however_its_dot_is_spaced(text: str) -> None:
    assert Classifier("mariadb").classify(text).kind == "session"


def test_advancing_a_sequence_is_a_write_however_its_dot_is_spaced() -> None:
    assert Classifier("mariadb").classify("SELECT s. nextval").kind == "write"


def test_the_oracle_modes_row_count_belongs_to_the_session() -> None:
    classifier = Classifier("mariadb")
    assert classifier.classify("SELECT sql %% rowcount").kind == "session"
    assert classifier.classify("SELECT rowcount, t.rowcount FROM t").kind == "read"


def test_bytes_go_to_the_primary() -> None:
    assert Classifier("mysql").classify(b"SELECT 1").kind == "unknown"  # type: ignore[arg-type]


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
