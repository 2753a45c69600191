"""The names in `stats()` can be split into the node and the counter, whatever the nodes are called.

The members of the kind are a counter of the database, of a cause and of a node, whose name may have dots or
look like another counter's. They were listed from `Cluster.stats()`.
"""

from __future__ import annotations

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.events import CAUSES


def test_each_name_is_split_at_its_last_dot() -> None:
    names = ("db-1.internal", "10.0.0.1:3307", "waits", "a.reads")
    db = ReplicatedDatabase("app", replicas=[{"name": name, "host": f"h{n}"} for n, name in enumerate(names)])
    found: dict[str, set[str]] = {}
    for key in db.stats():
        owner, _, counter = key.rpartition(".")
        found.setdefault(owner, set()).add(counter)
    assert set(found) == {"", "primary", "primary.because", *names}
    assert found["primary.because"] == set(CAUSES)
    counters = found["primary"]
    assert "reads" in counters
    assert all(found[name] == counters for name in names)
