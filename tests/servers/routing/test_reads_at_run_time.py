"""`db.reads`: where plain reads go, changed while the program runs, and the share that replicas serve.

The members of the kind are the values of the argument: the three words and a share, each set at run time, in
both forms; with `spread="unit"`; after a write of the session. Counted on the servers, so the consistency is
eventual where nothing else is said.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.clusters.lagging import Slot, bound, n_of
from support.forms.threads import in_thread
from support.waiting import until

READS = 10


def served(pair: Any, work: Any) -> tuple[int, int]:
    """How many reads the primary and the replica served."""
    pair.reset_counts()
    work()
    counts = pair.counts()
    return counts["primary"].reads, counts["replica-1"].reads


def read() -> None:
    for _ in range(READS):
        n_of()


@pytest.mark.usefixtures("form")
def test_each_value_applies_at_once_in_all_threads(pair: Any) -> None:
    with bound(pair, consistency="eventual") as db:
        n_of()

        def elsewhere() -> None:
            in_thread(lambda: (read(), db.close()))

        with db.primary():
            n_of()
        for value, expected in (
            ("primary", (READS, 0)),
            ("observe", (READS, 0)),
            (0, (READS, 0)),
            (1, (0, READS)),
            ("replica", (0, READS)),
        ):
            db.reads = value
            assert db.reads == db.on_primary.reads == value
            assert served(pair, read) == expected, value
            db.close()
            assert served(pair, elsewhere) == expected, value
        db.on_primary.reads = "primary"
        assert db.reads == "primary"
        with db.readonly():
            assert served(pair, read) == (0, READS)


@pytest.mark.usefixtures("form")
def test_a_share_of_the_reads_goes_to_replicas(pair: Any) -> None:
    with bound(pair, consistency="eventual", reads=0.25) as db:
        primary, replica = served(pair, lambda: [n_of() for _ in range(400)])
        assert primary + replica == 400
        assert 40 < replica < 200  # 100 are expected, and more than ten standard deviations allowed
        with db.readonly():
            assert served(pair, read) == (0, READS)
        with db.atomic():
            assert served(pair, read) == (READS, 0)
        assert db.stats()["fallbacks"] == 0


def test_a_unit_of_work_is_inside_the_share_or_outside_as_a_whole(pair: Any) -> None:
    with bound(pair, consistency="eventual", reads=0.5, spread="unit") as db:

        def unit() -> None:
            for _ in range(3):
                n_of()
            db.close()

        found = {served(pair, unit) for _ in range(40)}
        assert found == {(3, 0), (0, 3)}


def test_a_session_sees_its_writes_whichever_node_serves_the_read(pair: Any) -> None:
    with bound(pair, reads=0.5):
        for number in range(60):
            Slot.update(n=number).execute()
            assert n_of() == number
            pair.sync()
            assert n_of() == number


def test_the_prober_begins_when_reads_are_no_longer_only_observed(pair: Any) -> None:
    with bound(pair, reads="observe", probe_interval=1) as db:
        n_of()
        assert not db.health().probed
        db.reads = "replica"
        n_of()
        until(lambda: db.replicas[0].lag is not None)
