"""`status` and `explain` on real servers: what they show is so, for every class of database.

What can differ: the class (with and without pools, asyncio), whether the user may see replication, and a
replica that is behind. What another process has ejected the command cannot know.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

from peewee_replicas import PooledReplicatedDatabase, ReplicatedDatabase
from peewee_replicas.aio import AsyncReplicatedDatabase
from peewee_replicas.cli import command
from peewee_replicas.cli.command import FOUND, OK, main
from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.once


@pytest.fixture
def shop(pair: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with a database of each class, as a program has it."""
    module: Any = ModuleType("shop")
    (replica,) = pair.replicas
    options: dict[str, Any] = {
        **pair.parameters("primary"),
        "user": pair.admin_user,
        "replicas": [{"name": "replica-1", "host": replica.host, "port": replica.port}],
        "connect_timeout": 20,
    }
    module.plain = ReplicatedDatabase(**options, probe_interval=0.2)
    module.pooled = PooledReplicatedDatabase(**options, probe_interval=None)
    options.pop("ssl_disabled", None)
    module.tasks = AsyncReplicatedDatabase(**options)
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["plain", "pooled", "tasks"])
def test_each_class_of_database_is_shown(
    name: str, shop: Any, pair: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", f"shop:{name}", "--json", "--timeout", "30"]) == OK
    primary, replica = told(capsys)["nodes"]
    assert (primary["node"], primary["role"], primary["position"]) == ("primary", "primary", "primary")
    assert (replica["node"], replica["role"], replica["state"]) == ("replica-1", "replica", "up")
    assert replica["position"] == "caught up"
    assert replica["gtid"]
    assert replica["follows"] == f"{pair.primary.host}:{pair.primary.port}"
    assert (primary["follows"], primary["follows_known"]) == (None, True)
    assert replica["connections"] >= 1
    assert pair.version in replica["version"]
    assert main(["explain", f"shop:{name}", "SELECT n FROM slot", "--json", "--timeout", "30"]) == OK
    route = told(capsys)
    assert (route["role"], route["node"], route["cause"]) == ("replica", "replica-1", "")
    assert route["servers_asked"] is True
    assert main(["explain", f"shop:{name}", "UPDATE slot SET n = 1", "--json"]) == FOUND
    assert told(capsys)["cause"] == "write"


def test_a_replica_that_is_behind_is_shown_again_and_again(
    shop: Any,
    pair: LocalCluster,
    lagging: LocalCluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair.primary.execute(f"UPDATE {pair.database_name}.slot SET n = n + 1")
    looks = []

    def interrupted(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupted)
    assert main(["status", "shop:plain", "--json", "--watch", "--interval", "7", "--timeout", "30"]) == OK
    assert looks == [7, 7]
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(documents) == 2
    for document in documents:
        replica = document["nodes"][1]
        assert (replica["position"], replica["state"], replica["ok"]) == ("behind", "unfit", False)
        assert "nothing is applied" in replica["cause"]
    assert main(["status", "shop:plain", "--timeout", "30"]) == FOUND
    shown = capsys.readouterr().out
    assert "replica-1: replication is stopped, nothing is applied" in shown
    # The proof holds, but nobody can serve it.
    assert main(["explain", "shop:plain", "SELECT n FROM slot", "--json", "--timeout", "30"]) == FOUND
    route = told(capsys)
    assert (route["role"], route["cause"]) == ("primary", "fallback")
    assert route["proof"]["stops_at"] is None
