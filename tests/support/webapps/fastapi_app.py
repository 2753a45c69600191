"""A FastAPI application over the synchronous database, as a user would write it; run by uvicorn."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fastapi import FastAPI
from support.webapps.settings import SECRET, SETTINGS, database
from support.webapps.tables import Slot

from peewee_replicas import PooledReplicatedDatabase
from peewee_replicas.ext.asgi import CausalSessionMiddleware

db = database(PooledReplicatedDatabase)
Slot.bind(db)
app = FastAPI()
if SETTINGS["carried"]:
    app.add_middleware(
        CausalSessionMiddleware, databases=db, secret=SECRET, readonly=SETTINGS.get("readonly", False)
    )


def n_now() -> int:
    with db.connection_context():
        n: int = Slot.get(Slot.name == "a").n
        return n


def set_n(n: int) -> None:
    with db.connection_context(), db.atomic():
        Slot.update(n=n).where(Slot.name == "a").execute()


@app.get("/slot")
def read() -> Any:
    return {"n": n_now(), "pid": os.getpid(), "stats": db.stats()}


@app.post("/slot/{n}")
def write(n: int) -> Any:
    set_n(n)
    return {"pid": os.getpid()}


@app.get("/async/slot")
async def read_async() -> Any:
    return {"n": await asyncio.to_thread(n_now), "pid": os.getpid(), "stats": db.stats()}


@app.post("/async/slot/{n}")
async def write_async(n: int) -> Any:
    await asyncio.to_thread(set_n, n)
    return {"pid": os.getpid()}


@app.get("/pid")
async def pid() -> Any:
    return {"pid": os.getpid()}
