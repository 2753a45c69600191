"""Which database objects of a thread have to see what it does through one of them."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

from peewee_replicas.concurrency import THREADS
from peewee_replicas.consistency.companions import Companions, companions_here, join, others_at
from peewee_replicas.consistency.process_history import ProcessHistory


class Reads:
    """The consistency of a database object."""

    def __init__(self, history: ProcessHistory) -> None:
        self.history = history


@pytest.fixture
def there() -> Companions[Reads]:
    return []


def test_each_is_there_once_and_only_those_at_the_same_servers_are_taken_out(
    there: Companions[Reads],
) -> None:
    here, elsewhere = ProcessHistory("db:3306"), ProcessHistory("other:3306")
    one, two, far = Reads(here), Reads(here), Reads(elsewhere)
    for each in (one, two, far, two, one):
        join(there, each)
    assert len(there) == 3
    assert list(others_at(there, one)) == [two]
    assert list(others_at(there, one)) == []
    assert [each() for each in there] == [one, far]


def test_two_endpoints_of_one_server_are_the_same_whichever_knows_it(there: Companions[Reads]) -> None:
    before, after = ProcessHistory("db-1:3306"), ProcessHistory("db-2:3306")
    after.others = (before,)
    one, two = Reads(before), Reads(after)
    for teller, told in ((one, two), (two, one)):
        join(there, one)
        join(there, two)
        assert list(others_at(there, teller)) == [told]


def test_those_that_are_gone_leave_nothing(there: Companions[Reads]) -> None:
    history = ProcessHistory("db:3306")
    for _ in range(20):
        join(there, Reads(history))
        gc.collect()
    assert len(there) == 1
    one = Reads(history)
    assert list(others_at(there, one)) == []


def test_threads_have_none_in_common() -> None:
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(companions_here, THREADS).result()
        assert thread.submit(companions_here, THREADS).result() is first
    assert companions_here(THREADS) is companions_here(THREADS)
    assert companions_here(THREADS) is not first
