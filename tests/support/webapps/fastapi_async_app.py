"""A FastAPI application over the asyncio database, as a user would write it; run by uvicorn."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from support.webapps.settings import SECRET, SETTINGS, database
from support.webapps.tables import Slot

from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.ext.asgi import CausalSessionMiddleware

db = database(AsyncReplicatedDatabase)
Slot.bind(db)
app = FastAPI()
if SETTINGS["carried"]:
    app.add_middleware(
        CausalSessionMiddleware, databases=db, secret=SECRET, readonly=SETTINGS.get("readonly", False)
    )


@app.get("/slot")
async def read() -> Any:
    slot = await db.get(Slot.select().where(Slot.name == "a"))
    return {"n": slot.n, "pid": os.getpid(), "stats": db.stats()}


@app.post("/slot/{n}")
async def write(n: int) -> Any:
    async with db.atomic():
        await db.aexecute(Slot.update(n=n).where(Slot.name == "a"))
    return {"pid": os.getpid()}


@app.get("/pid")
async def pid() -> Any:
    return {"pid": os.getpid()}
