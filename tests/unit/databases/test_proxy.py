"""ReplicatedDatabaseProxy: usable at import time, looked up when used."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from peewee import CharField, DatabaseProxy, Model, SqliteDatabase

from peewee_replicas import ConfigurationError, ReadOnlyViolation, ReplicatedDatabase, ReplicatedDatabaseProxy

READ = "SELECT 1"


def made() -> ReplicatedDatabase:
    return ReplicatedDatabase("app", host="p", replicas=[{"host": "r"}])


def test_decorators_are_made_before_and_work_after() -> None:
    proxy = ReplicatedDatabaseProxy()

    @proxy.readonly()
    def read() -> Any:
        return proxy.explain_route(READ)

    @proxy.primary()
    def write() -> Any:
        return proxy.explain_route(READ)

    @proxy.readonly()
    def refused() -> Any:
        return proxy.explain_route("DELETE FROM t")

    with pytest.raises(AttributeError, match="uninitialized Proxy"):
        read()
    proxy.initialize(made())
    assert (read().role, write().role) == ("replica", "primary")
    with pytest.raises(ReadOnlyViolation):
        refused()
    proxy.initialize(ReplicatedDatabase("other", host="q", replicas=[{"host": "s", "name": "the other"}]))
    assert read().node == "the other"


def test_generators_are_decorated_too() -> None:
    proxy = ReplicatedDatabaseProxy()

    @proxy.primary()
    def roles() -> Any:
        yield proxy.explain_route(READ).role
        yield proxy.explain_route(READ).role

    proxy.initialize(made())
    assert inspect.isgeneratorfunction(roles) or list(roles()) == ["primary", "primary"]
    found = [(role, proxy.explain_route(READ).role) for role in roles()]
    assert found == [("primary", "replica")] * 2


def test_with_gives_the_proxy_and_leaves_nothing_behind() -> None:
    proxy = ReplicatedDatabaseProxy()
    proxy.initialize(made())
    with proxy.primary() as given:
        assert given is proxy
        assert proxy.explain_route(READ).role == "primary"
    assert proxy.explain_route(READ).role == "replica"


def test_a_failed_entry_leaves_nothing_behind() -> None:
    proxy = ReplicatedDatabaseProxy()
    with pytest.raises(AttributeError), proxy.primary():
        pass
    proxy.initialize(made())
    assert proxy.explain_route(READ).role == "replica"


def test_on_primary_before_and_after_initialisation() -> None:
    proxy = ReplicatedDatabaseProxy()
    place = proxy.on_primary
    assert isinstance(place, DatabaseProxy)

    class Account(Model):
        name = CharField()

        class Meta:
            database = place

    database = made()
    proxy.initialize(database)
    assert proxy.on_primary is place
    assert place.obj is database.on_primary
    assert Account._meta.database is place  # as with peewee's own proxy
    assert database.explain_route(Account.select()).reason == "bound to on_primary"
    late = ReplicatedDatabaseProxy()
    late.initialize(database)
    assert late.on_primary.obj is database.on_primary


def test_only_our_databases_fit() -> None:
    proxy = ReplicatedDatabaseProxy()
    with pytest.raises(ConfigurationError, match="one of peewee_replicas' databases"):
        proxy.initialize(SqliteDatabase(None))
    assert proxy.obj is None


def test_it_is_a_database_proxy() -> None:
    proxy = ReplicatedDatabaseProxy()
    with pytest.raises(AttributeError):
        proxy.connect()
    database = made()
    proxy.initialize(database)
    assert proxy.replicas == database.replicas
    assert proxy.connection_context().db is database or proxy.connection_context().db is proxy
    assert isinstance(proxy, DatabaseProxy)
