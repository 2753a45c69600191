"""A WSGI program for prefork servers that uses its database before its workers are forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from support.load.one_request import Outcome, database, request, say

db = database()
request(db)
db.connect()  # and left open: the workers inherit its sockets
db.execute_sql("SELECT 1")
with db.primary():
    db.execute_sql("SELECT 1")
say(master=os.getpid())


def forked(server: Any, worker: Any) -> None:
    """The hook ``post_fork`` of gunicorn."""
    if not db.is_closed():
        db.close()  # what was inherited open is the parent's; a program begins each request closed


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read on each request, and write if there is ``?token=``."""
    asked = parse_qs(environ.get("QUERY_STRING", ""))
    outcome = Outcome()
    if outcome.serve(db, int(asked.get("token", ["0"])[0])):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [str(next(iter(outcome.errors))).encode()]
