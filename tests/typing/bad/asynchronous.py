"""Mistakes with the asyncio form."""

from peewee_replicas.aio import AsyncReplicatedDatabase

db = AsyncReplicatedDatabase("app")


async def main() -> None:
    async with db.readonly(consistency="sesion"):  # refused: consistency
        pass
    async with db.atomic() as transaction:
        await transaction.rollback()  # refused: None
        await transaction.arolback()  # refused: arolback
    await db.on_primary.aexecute_sql()  # refused: sql
    await db.close_pool(wait=5)  # refused: wait
