# pyright: strict
"""The asyncio form."""

from typing_extensions import assert_type

from peewee_replicas.aio import AsyncReplicatedDatabase

db = AsyncReplicatedDatabase("app", host="primary", replicas=["r1"], pool_size=5)


async def main() -> None:
    async with db as entered:
        assert_type(entered, AsyncReplicatedDatabase)
    async with db.atomic() as transaction:
        await transaction.arollback()
    async with db.transaction() as transaction, db.savepoint() as savepoint:
        await savepoint.acommit()
        await transaction.acommit()
    async with db.readonly(consistency="session") as scoped:
        assert_type(scoped, AsyncReplicatedDatabase)
    async with db.atomic(read_only=True) as scoped:
        assert_type(scoped, AsyncReplicatedDatabase)
    async with db.primary(), db.causal_session(await db.abookmark()), db.on_primary.atomic():
        pass
    await db.aclose()
    await db.close_pool()


def in_a_greenlet() -> None:
    with db.atomic() as transaction:
        transaction.rollback()


db.init("app", pool_size=3, policy="random")
