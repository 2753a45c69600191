"""A Flask application with FlaskDB, as a user would write it; run by gunicorn."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from playhouse.flask_utils import FlaskDB
from support.webapps.settings import SECRET, SETTINGS, database
from support.webapps.tables import Slot

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.ext.wsgi import CausalSessionMiddleware

db = database(ReplicatedDatabase)
Slot.bind(db)
app = Flask(__name__)
FlaskDB(app, db)
if SETTINGS["carried"]:
    app.wsgi_app = CausalSessionMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, db, secret=SECRET, readonly=SETTINGS.get("readonly", False)
    )


@app.get("/slot")
def read() -> Any:
    return {"n": Slot.get(Slot.name == "a").n, "pid": os.getpid(), "stats": db.stats()}


@app.post("/slot/<int:n>")
def write(n: int) -> Any:
    with db.atomic():
        Slot.update(n=n).where(Slot.name == "a").execute()
    return {"pid": os.getpid()}


@app.get("/pid")
def pid() -> Any:
    return {"pid": os.getpid()}
