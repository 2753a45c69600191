"""Which database objects hear what a thread writes through one of them."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from peewee_replicas.concurrency import THREADS
from peewee_replicas.consistency.companions import Companions, join


class Reads:
    """The consistency of a database object; counts how often it hears of a write."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self) -> None:
        self.heard += 1


@pytest.fixture
def companions() -> Companions:
    return Companions()


def test_others_hear_once_until_their_reads_have_begun_again(companions: Companions) -> None:
    one, two = Reads(), Reads()
    for each in (one, two):
        assert not join(companions.here(THREADS), each)
    assert join(companions.here(THREADS), two)
    for _ in range(3):
        companions.tell(THREADS, one)
    assert (one.heard, two.heard) == (0, 1)
    join(companions.here(THREADS), two)
    companions.tell(THREADS, one)
    assert (one.heard, two.heard) == (0, 2)


def test_those_of_other_threads_hear_nothing(companions: Companions) -> None:
    one, two = Reads(), Reads()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: join(companions.here(THREADS), two)).result()
        companions.tell(THREADS, one)
        assert two.heard == 0
        thread.submit(companions.tell, THREADS, one).result()
        assert two.heard == 1


def test_those_with_a_session_of_their_own_hear_everywhere_and_always(companions: Companions) -> None:
    one, two = Reads(), Reads()
    join(companions.scoped, two)
    with ThreadPoolExecutor(1) as thread:
        for _ in range(3):
            thread.submit(companions.tell, THREADS, one).result()
    companions.tell(THREADS, two)
    assert (one.heard, two.heard) == (0, 3)


def test_those_that_are_gone_leave_nothing(companions: Companions) -> None:
    one = Reads()
    here = companions.here(THREADS)
    for _ in range(20):
        here.append(_gone())
        companions.scoped.append(_gone())
    companions.tell(THREADS, one)
    assert (here, companions.scoped) == ([], [])
    here.extend(_gone() for _ in range(20))
    join(here, one)
    assert [each() for each in here] == [one]


def _gone() -> weakref.ref[Reads]:
    found = weakref.ref(Reads())
    gc.collect()
    assert found() is None
    return found
