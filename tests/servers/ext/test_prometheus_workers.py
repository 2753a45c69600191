"""What four workers report to Prometheus adds up to what the servers counted, and an idle one's gauges move.

The metrics are those of `peewee_replicas.ext.prometheus.Metrics`. What refreshes the gauges without a
statement is the prober alone, and it ends by itself: both are tried here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support.clusters.lagging import elsewhere
from support.waiting import until
from support.webapps.pairs import described, webapp_table
from support.webapps.serving import serving

from peewee_replicas.ext.prometheus import instrument, uninstrument

WORKERS = 4


def samples(text: str, name: str) -> list[Any]:
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def test_the_reads_of_all_workers_by_node_are_what_the_servers_counted(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    webapp_table(cluster)
    options = {**described(cluster), "consistency": "eventual", "probe_interval": None}
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    counted: Counter[str] = Counter()
    with serving(
        "gunicorn", "support.webapps.metrics_app:app", {"database": options}, "--preload", workers=WORKERS
    ) as workers:
        cluster.reset_counts()
        for number, worker in enumerate(workers):
            answer = worker.ask("GET", f"/work/{5 + number}/{number}", {})
            assert answer["pid"] == worker.pid
            assert answer["primary"].get("write", 0) == number
            counted.update(answer["reads"])
        text = workers[0].ask("GET", "/metrics", {})["text"]
    assert sum(counted.values()) == sum(5 + number for number in range(WORKERS))
    reported: Counter[str] = Counter()
    for sample in samples(text, "peewee_replicas_statements_total"):
        if sample.labels["kind"] in ("read", "write"):
            reported[sample.labels["node"], sample.labels["kind"]] += int(sample.value)
    assert {node: reported[node, "read"] for node in counted} == counted
    until(lambda: cluster.counts()["primary"].writes == reported["primary", "write"] == 0 + 1 + 2 + 3)
    on_servers = {node.name: cluster.counts()[node.name].reads for node in cluster.replicas}
    assert on_servers == dict(counted)
    states = {
        (sample.labels["node"], sample.labels["state"]): int(sample.value)
        for sample in samples(text, "peewee_replicas_node_state")
    }
    assert {node: states[node, "up"] for node in counted} == dict.fromkeys(counted, WORKERS)
    durations = samples(text, "peewee_replicas_statement_seconds_count")
    by_node = {s.labels["node"]: int(s.value) for s in durations if s.labels["role"] == "replica"}
    assert by_node == dict(counted)


@pytest.mark.parametrize("server", ["mariadb"])  # the prober's rounds are the same for both
def test_gauges_of_an_idle_process_follow_the_prober(lagging: Any) -> None:
    registry = CollectorRegistry()
    db = lagging.database(probe_interval=0.1, max_lag=0.5, consistency="eventual")
    labels = {"database": "app", "node": "replica-1"}

    def shown(metric: str, **more: str) -> float | None:
        return registry.get_sample_value(f"peewee_replicas_node_{metric}", {**labels, **more})

    instrument(db, registry=registry, name="app")
    db.execute_sql("SELECT COUNT(*) FROM slot").fetchall()  # the only statement of this process
    # A lag is measured from the first look on, so that has to come before the write.
    until(lambda: shown("lag_seconds") not in (None, -1), seconds=60)
    elsewhere(lagging, "UPDATE slot SET n = n + 1")
    until(lambda: shown("state", state="lagging") == 1 and (shown("lag_seconds") or 0) > 0.5, seconds=60)
    for node in lagging.replicas:
        node.thaw()
    until(lambda: shown("state", state="up") == 1, seconds=60)
    db._parts.cluster.prober.stop()  # as it does when nobody uses the database any more
    assert shown("lag_seconds") == -1
    uninstrument(db, registry=registry)
    assert shown("lag_seconds") is shown("state", state="up") is None
    db.close()
