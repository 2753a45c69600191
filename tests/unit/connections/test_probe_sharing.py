"""Which databases of one process share a prober: those for which it would certainly find the same.

What must tell two databases apart is every argument that a probe depends on: those of the nodes and of their
connections, the class, and the settings that `nodes.probe_rounds` and `nodes.prober` read. What must not are
the settings that each database applies to the findings by itself, and the schema, unless something says that
it matters to a probe.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from support.waiting import until

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.nodes.probe_key import Itself, frozen

HOST = "127.0.0.1"
NODES = [{"host": HOST, "port": 2}, {"host": HOST, "port": 3}]


def secret(node: object) -> str:
    return "secret"


class Renamed(ReplicatedDatabase):
    """Overrides nothing that a probe uses."""

    def tenant(self) -> object:
        return self.database

    def execute_sql(self, *args: Any, **kwargs: Any) -> Any:
        return super().execute_sql(*args, **kwargs)


class Connecting(ReplicatedDatabase):
    def _connect(self) -> Any:
        return super()._connect()


class SettingUp(ReplicatedDatabase):
    def _initialize_connection(self, conn: Any) -> None:
        pass


class Renewing(ReplicatedDatabase):
    """Makes its parameters anew each time, as for passwords that are valid for minutes."""

    @property
    def connect_params(self) -> Any:
        return {**vars(self)["given"], "password": self.renewed}

    @connect_params.setter
    def connect_params(self, given: Any) -> None:
        vars(self)["given"] = given

    def renewed(self, node: object) -> str:
        return "secret"


def make(schema: str = "one", cls: Any = ReplicatedDatabase, **given: Any) -> Any:
    arguments = {"host": HOST, "port": 1, "user": "app", "password": "x", "replicas": NODES, **given}
    return cls(schema, **arguments)


def key(database: Any) -> Any:
    parts = database._parts
    nodes = parts.cluster.prober._nodes()
    return parts.replicas.probe_key(nodes, parts.cluster.prober.interval)


ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "the schema": ({}, {"schema": "two"}),
    "a schema with a dash": ({}, {"schema": "two-b$"}),
    "max_lag": ({"max_lag": 1}, {"max_lag": 20}),
    "policy": ({}, {"policy": "random"}),
    "consistency": ({}, {"consistency": "strong"}),
    "names, weights, tags and bounds of nodes": (
        {},
        {
            "replicas": [
                {**NODES[0], "name": "a", "weight": 2, "max_lag": 3},
                {**NODES[1], "tags": {"z": "1"}},
            ]
        },
    ),
    "the same callable": ({"password": secret}, {"password": secret, "schema": "two"}),
    "equal dicts": ({"ssl": {"ca": "a", "key": "b"}}, {"ssl": {"key": "b", "ca": "a"}}),
    "a harmless init_command": (
        {"init_command": "SET time_zone = '+00:00'"},
        {"init_command": "SET time_zone = '+00:00'", "schema": "two"},
    ),
    "heartbeats elsewhere": (
        {"heartbeat_table": "ops.heartbeat"},
        {"heartbeat_table": "ops.heartbeat", "schema": "two"},
    ),
    "a class that changes nothing of it": ({"cls": Renamed}, {"cls": Renamed, "schema": "two"}),
}

APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "host": ({}, {"host": "localhost"}),
    "port": ({}, {"port": 4}),
    "user": ({}, {"user": "other"}),
    "password": ({}, {"password": "y"}),
    "text and bytes": ({}, {"password": b"x"}),
    "another callable": ({"password": secret}, {"password": lambda node: "secret"}),
    "a time limit": ({}, {"connect_timeout": 3}),
    "true and one": ({"ssl_disabled": True}, {"ssl_disabled": 1}),
    "a node's own parameter": ({}, {"replicas": [NODES[0], {**NODES[1], "user": "other"}]}),
    "another node": ({}, {"replicas": [NODES[0], {"host": HOST, "port": 4}]}),
    "one node less": ({}, {"replicas": NODES[:1]}),
    "the order of nodes": ({}, {"replicas": NODES[::-1]}),
    "the primary listed": ({}, {"replicas": [*NODES, {"host": HOST, "port": 1}]}),
    "the class": ({}, {"cls": PooledReplicatedDatabase}),
    "a subclass": ({}, {"cls": Renamed}),
    "probe_interval": ({}, {"probe_interval": 2}),
    "heartbeat_table": ({}, {"heartbeat_table": "ops.heartbeat"}),
    "follow_primary": ({}, {"follow_primary": True}),
    "max_connection_age": ({}, {"max_connection_age": 60}),
    "_connect()": ({"cls": Connecting}, {"cls": Connecting}),
    "_initialize_connection()": ({"cls": SettingUp}, {"cls": SettingUp}),
    "the schema of a heartbeat table": (
        {"heartbeat_table": "heartbeat"},
        {"heartbeat_table": "heartbeat", "schema": "two"},
    ),
    "the schema of an init_command": (
        {"init_command": "SET @a = (SELECT n FROM t)"},
        {"init_command": "SET @a = (SELECT n FROM t)", "schema": "two"},
    ),
    "the schema of a procedure": ({"init_command": "CALL p"}, {"init_command": "CALL p", "schema": "two"}),
    "the schema of a procedure after a SET": (
        {"init_command": "SET STATEMENT max_statement_time = 1 FOR CALL p"},
        {"init_command": "SET STATEMENT max_statement_time = 1 FOR CALL p", "schema": "two"},
    ),
    "the schema of a sequence": (
        {"init_command": "SET @a =\nNEXT VALUE for s"},
        {"init_command": "SET @a =\nNEXT VALUE for s", "schema": "two"},
    ),
    "the schema of a second statement": (
        {"init_command": "SET @a = 1; CALL p"},
        {"init_command": "SET @a = 1; CALL p", "schema": "two"},
    ),
    "a schema that may name a server": ({}, {"schema": "two@replica"}),
    "a node's own schema": (
        {"replicas": [NODES[0], {**NODES[1], "database": "third"}]},
        {"replicas": [NODES[0], {**NODES[1], "database": "third"}], "schema": "two"},
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_what_each_database_applies_by_itself_does_not_tell_them_apart(case: str) -> None:
    one, other = (make(**given) for given in ALIKE[case])
    assert key(one) == key(other)
    assert hash(key(one)) == hash(key(other))


@pytest.mark.parametrize("case", APART)
def test_what_a_probe_depends_on_tells_them_apart(case: str) -> None:
    one, other = (make(**given) for given in APART[case])
    assert key(one) != key(other)
    assert key(one) == key(one)


def test_a_method_of_one_object_tells_it_apart() -> None:
    one, other = make(), make()
    other._connect = other._connect
    assert key(one) != key(other)
    assert key(other) == key(other)


def test_a_changed_parameter_is_seen() -> None:
    one, other = make(), make()
    other.connect_params["password"] = "y"
    assert key(one) != key(other)


def test_a_primary_that_has_moved_is_another() -> None:
    one, other = make(), make()
    other.set_primary(other.replicas[0].name)
    assert key(one) != key(other)
    one.set_primary(one.replicas[0].name)
    assert key(one) == key(other)


def test_the_schema_is_told_all_the_same() -> None:
    assert [key(make(name)).schema for name in ("one", "two")] == ["one", "two"]


def test_it_shows_no_password() -> None:
    assert "hidden" not in repr(key(make(password="hidden")))
    assert "hidden" not in repr(Itself("hidden"))


def test_it_keeps_nothing_alive() -> None:
    class Store:
        def password(self, node: object) -> str:
            return "x"

    store = Store()
    database = make(password=store.password)
    kept, gone = key(database), weakref.ref(store)
    del database, store
    gc.collect()
    assert gone() is None
    assert kept == kept


def test_what_has_gone_is_equal_to_nothing_new() -> None:
    class Thing:
        pass

    thing = Thing()
    old = Itself(thing)
    assert old == Itself(thing)
    del thing
    gc.collect()
    assert old != Itself(Thing())
    assert old != "a text"


def test_what_has_no_weak_reference_is_compared_too() -> None:
    class Bare:
        __slots__ = ()

    one = Bare()
    assert frozen([one]) == frozen([one])
    assert frozen([one]) != frozen([Bare()])
    assert frozen((1,)) != frozen([1])


def test_parameters_that_a_program_makes_anew_each_time_do_not_keep_nodes_from_being_probed() -> None:
    database = make(cls=Renewing, probe_interval=0.05, replicas=NODES[:1])
    assert key(database) == key(database)
    database._parts.replicas.attend()
    until(lambda: database.replicas[0].state == "ejected")
    database.dispose()
