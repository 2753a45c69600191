"""The asyncio form, over `playhouse.pwasyncio` and aiomysql: the extra ``asyncio``."""

from ..connections.peewee_version import require_asyncio

require_asyncio()

from .database import AsyncReplicatedDatabase  # noqa: E402  # a clear error comes before one from here

__all__ = ["AsyncReplicatedDatabase"]
