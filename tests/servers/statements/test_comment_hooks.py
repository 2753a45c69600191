"""Comments reach the server in each place where the program's statements are sent, and change nothing else.

The places were found with ``grep -rn 'execution.comment' peewee_replicas``: the primary's own connection, a
read on a replica, alone and together with a wait, and a query under the guard.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.clusters.lagging import LONG, Slot, bound, n_of, watched
from support.forms import threads_only

from peewee_replicas import PooledReplicatedDatabase

pytestmark = pytest.mark.usefixtures("form")

# The statement as its server sees it.
SEEN = "SELECT MAX(info) FROM information_schema.processlist WHERE LEFT(info, 11) = 'SELECT MAX('"


def seen(database: Any) -> str:
    return str(database.execute_sql(SEEN).fetchone()[0])


def test_the_server_sees_the_comment_wherever_it_runs(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, watched(db) as events:
        assert seen(db) == SEEN
        db.comment_hooks.append(lambda sql: {"word": sql.split()[0], "percent": "100%"})
        commented = f"{SEEN} /*percent='100%25',word='SELECT'*/"
        assert seen(db) == commented
        with db.readonly():
            assert seen(db) == commented
            assert events[-1].role == "replica"
        Slot.update(n=7).where(Slot.name == "it's 100%").execute()
        Slot.update(n=2).execute()
        assert n_of() == 2  # waits, together with the wait
        with db.atomic(), db.atomic():
            assert seen(db) == commented
        with db.readonly(snapshot=True):
            assert seen(db) == commented
        assert {event.sql for event in events if "processlist" in event.sql} == {SEEN}
        with db.primary():
            assert seen(db) == commented
        db.comment_hooks.clear()
        assert seen(db) == SEEN


@threads_only("the pool of this name")
def test_the_pooled_form_adds_it_too(pair: Any) -> None:
    with bound(pair, PooledReplicatedDatabase) as db:
        db.comment_hooks.append(lambda _: {"a": "b"})
        assert seen(db) == f"{SEEN} /*a='b'*/"


def test_comments_cost_no_place_in_the_classifiers_memory_and_change_no_route(pair: Any) -> None:
    with bound(pair, catch_up_timeout=LONG) as db, watched(db) as events:
        classifier = db._parts.router.classifier

        def work() -> list[tuple[str, str]]:
            events.clear()
            n_of()
            db.execute_sql("SET @mine = 1")
            db.execute_sql("UPDATE slot SET n = n + 1")
            db.execute_sql("SELECT GET_LOCK('x', 0)")
            db.execute_sql("SELECT RELEASE_LOCK('x')")
            db.close()
            return [(event.kind, event.role, event.sql) for event in events]

        plain = work()
        known = {**classifier._recent, **classifier._older}
        number = itertools.count()
        # The second looks like code, and stays a comment.
        db.comment_hooks.append(
            lambda _: {"n": next(number), "k*/ FOR UPDATE": "*/ FOR UPDATE; DROP TABLE slot"}
        )
        for _ in range(3):
            assert work() == plain
        assert set({**classifier._recent, **classifier._older}) == set(known)


def test_a_hook_may_use_the_database_itself(pair: Any) -> None:
    with bound(pair) as db:
        db.comment_hooks.append(lambda _: {"n": n_of()})
        assert seen(db) == f"{SEEN} /*n='1'*/"
