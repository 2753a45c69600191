"""The asyncio form, over `playhouse.pwasyncio` and aiomysql: the extra ``asyncio``."""

from ..connections.peewee_version import require_asyncio
from ..errors import importing_extra

require_asyncio()

with importing_extra("asyncio", "peewee_replicas.aio"):
    from .database import AsyncReplicatedDatabase

__all__ = ["AsyncReplicatedDatabase"]
