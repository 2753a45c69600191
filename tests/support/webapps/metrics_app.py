"""A Flask application whose workers report to Prometheus together; run by gunicorn with `preload`."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from playhouse.flask_utils import FlaskDB
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from support.webapps.settings import database
from support.webapps.tables import Slot

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.ext.prometheus import instrument

db = database(ReplicatedDatabase)
Slot.bind(db)
instrument(db)  # before the fork
app = Flask(__name__)
FlaskDB(app, db)


@app.get("/work/<int:reads>/<int:writes>")
def work(reads: int, writes: int) -> Any:
    with db.counting() as counts:
        for _ in range(reads):
            Slot.get(Slot.name == "a")
        for n in range(writes):
            Slot.update(n=n).where(Slot.name == "a").execute()
    return {"reads": counts.reads, "primary": counts.primary, "pid": os.getpid()}


@app.get("/metrics")
def metrics() -> Any:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return {"text": generate_latest(registry).decode()}


@app.get("/pid")
def pid() -> Any:
    return {"pid": os.getpid()}
