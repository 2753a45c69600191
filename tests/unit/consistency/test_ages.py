"""How old is what a read must see: known for own writes, a bound for the rest, and never made up.

The kind is all calls that add to `Session.seen`: `saw` (by `Consistency._wrote`), `was_told`, `start_from`,
`take_over`; and all that replace or drop it: `end_unit`, `forget`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.databases.ended_statements import statement

from peewee_replicas.concurrency import Clock
from peewee_replicas.consistency.levels import Consistency
from peewee_replicas.consistency.sessions import Session
from peewee_replicas.events import Counters
from peewee_replicas.positions import MariaDBPosition
from peewee_replicas.scopes.frames import Frame
from peewee_replicas.scopes.scope import Scope


def gtid(text: str) -> MariaDBPosition:
    return MariaDBPosition.parse(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(Clock, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def found() -> Consistency:
    owner: Any = SimpleNamespace(units=None, waits_for_itself=lambda: False)
    made = Consistency(owner, "session", 0.5, 60.0, Counters("asked", "unasked"))
    primary: Any = SimpleNamespace(
        may_ask=lambda: True, asked=lambda answered: None, current=lambda: gtid("0-1-9"), without_gtids=""
    )
    made.attach(primary, "a primary of these tests")
    return made


def test_a_write_is_as_old_as_its_acknowledgement(found: Consistency, clock: Any) -> None:
    statement(found, "INSERT 1", "0-1-1")
    clock.seconds += 1
    found.needs(None)
    assert found.seen_since(None) == (100.0, "written")
    statement(found, "INSERT 2", "0-1-2")
    assert found.seen_since(None) == (101.0, "written")


def test_what_the_primary_reports_is_at_least_as_old_as_its_answer(found: Consistency, clock: Any) -> None:
    statement(found, "INSERT 1", "0-1-1")
    statement(found, "UPDATE 1", None)  # changed nothing
    clock.seconds += 1
    assert found.known_need(None) is None  # it is still to be asked for
    found.needs(None)
    assert found.seen_since(None) == (101.0, "asked")
    assert found.known_need(None) == gtid("0-1-9")


def test_an_answer_with_nothing_new_makes_nothing_younger(found: Consistency, clock: Any) -> None:
    statement(found, "INSERT 1", "0-1-9")
    statement(found, "UPDATE 1", None)
    clock.seconds += 1
    found.needs(None)
    assert found.seen_since(None) == (100.0, "written")


def test_the_age_of_a_bookmark_is_not_known(found: Consistency, clock: Any) -> None:
    frame = Frame(found._owner, "causal", session=found.inner_session([gtid("0-1-5")]))
    clock.seconds += 1
    with Scope(None, lambda: frame):
        found.needs(None)
        assert found.seen_since(None) == (100.0, "received")
        statement(found, "INSERT 1", "0-1-6")
        assert found.seen_since(None) == (101.0, "written")
    found.needs(None)
    assert found.seen_since(None) == (101.0, "written")  # the thread has seen what its session has


def test_a_unit_of_work_begins_with_the_age_of_what_the_process_wrote(found: Consistency, clock: Any) -> None:
    statement(found, "INSERT 1", "0-1-1")
    found.unit_ended()
    assert found.own_session().since().at == float("-inf")
    assert found.known_need(None) is None
    clock.seconds += 1
    found.needs(None)
    assert found.seen_since(None) == (100.0, "written")


def test_strong_asks_now_and_eventual_needs_nothing(found: Consistency, clock: Any) -> None:
    found.level = "strong"
    assert found.seen_since(None) == (100.0, "asked")
    found.level = "eventual"
    assert found.seen_since(None) is None


def test_a_scope_that_moved_must_see_something_of_unknown_age(found: Consistency, clock: Any) -> None:
    statement(found, "INSERT 1", "0-1-1")
    frame = Frame(found._owner, "readonly")
    frame.must_reach = gtid("0-1-3")
    with Scope(None, lambda: frame):
        assert found.seen_since(frame) is None


def test_nothing_is_made_up(found: Consistency) -> None:
    session = Session(gtid("0-1-1"), begun=True)
    assert session.since().at == float("-inf")
    found._local.session = session
    assert found.seen_since(None) is None
