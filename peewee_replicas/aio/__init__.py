"""The asyncio form, over `playhouse.pwasyncio` and aiomysql: the extra ``asyncio``."""

from .database import AsyncReplicatedDatabase

__all__ = ["AsyncReplicatedDatabase"]
