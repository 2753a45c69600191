# pyright: strict
"""Scopes, transactions and what a database tells about itself."""

from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

from peewee_replicas import (
    NodeEvent,
    Replica,
    ReplicatedDatabase,
    ReplicatedDatabaseProxy,
    Route,
    RouteEvent,
)

db = ReplicatedDatabase("app")
proxy = ReplicatedDatabaseProxy()
proxy.initialize(db)

with db.readonly(consistency="strong", max_lag=2.5, snapshot=True) as scoped:
    assert_type(scoped, ReplicatedDatabase)
db.reads = "primary"
db.reads = 0.01
proxy.reads = "replica"
proxy.writes = db.writes = "refuse"

with db.atomic(read_only=True) as scoped:
    assert_type(scoped, ReplicatedDatabase)
with db.atomic(read_only=False) as transaction:
    transaction.rollback()
with db.readonly(tags={"use": "report"}), db.readonly(tags=[{"zone": "a"}, {}], node="replica-1"):
    pass
with db.primary(), db.causal_session(db.bookmark()):
    pass
with (
    proxy.readonly(consistency="eventual", tags={"use": "report"}, node="replica-1"),
    proxy.primary(),
    proxy.causal_session("bookmark"),
):
    pass


@db.readonly()
def name_of(number: int) -> str:
    return str(number)


@db.atomic(read_only=True)
def age_of(number: int) -> int:
    return number


@proxy.readonly(max_lag=3)
def names() -> Iterator[str]:
    yield ""


@db.primary()
async def names_later() -> AsyncIterator[str]:
    yield ""


@db.atomic()
def save(number: int) -> bytes:
    return bytes(number)


assert_type(name_of(1), str)
assert_type(names(), Iterator[str])
assert_type(save(1), bytes)

with db.atomic() as transaction:
    transaction.rollback()
with db.transaction() as transaction, db.savepoint() as savepoint:
    savepoint.rollback(begin=False)
    transaction.commit()

assert_type(db.on_primary, ReplicatedDatabase)
assert_type(db.on_replicas(use="report"), ReplicatedDatabase)
assert_type(dict(db.replicas[0].tags), dict[str, str])
assert_type(db.replicas, tuple[Replica, ...])
assert_type(db.explain_route("SELECT 1"), Route)
assert_type(db.explain_route("SELECT 1").node, str | None)


def told(event: RouteEvent) -> None:
    print(event.node)


def told_of_node(event: NodeEvent) -> None:
    print(event.node)


db.route_hooks.append(told)
db.node_hooks.append(told_of_node)
