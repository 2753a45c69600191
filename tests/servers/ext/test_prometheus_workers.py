"""What four workers report to Prometheus adds up to what the servers counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.waiting import until
from support.webapps.pairs import described, webapp_table
from support.webapps.serving import serving

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
