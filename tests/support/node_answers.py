"""Answers of nodes as the command `pwreplicas` collects them: of a set-up that is right, and changed ones."""

from __future__ import annotations

from typing import Any

from peewee_replicas.cli.answers import NodeAnswers
from peewee_replicas.nodes.fitness import Fitness
from peewee_replicas.nodes.interview import Channel, Facts, Source
from peewee_replicas.servers import mariadb, mysql
from peewee_replicas.servers.identity import ServerIdentity

SERVERS = {"mysql": mysql, "mariadb": mariadb}
UP = Fitness("up", "", "replica", 0.0)
SETTINGS = {
    "sql_mode": "STRICT_TRANS_TABLES",
    "time_zone": "SYSTEM",
    "system_time_zone": "UTC",
    "transaction_isolation": "REPEATABLE-READ",
    "collation_server": "utf8mb4_general_ci",
}


def answers(server: str, *, primary: bool = False) -> NodeAnswers:
    """The answers of a node that is set up right."""
    facts = Facts(
        server=ServerIdentity("", "1" if primary else "2", "h", "3306"),
        read_only=not primary,
        offline=False,
        member=False,
        position=None,
        sample=None,
        channels=() if primary else (Channel(True, True, 0.0, "", Source("p", "3306")),),
        beats=None,
        variables={},
        dialect=SERVERS[server],
    )
    return NodeAnswers(
        name="primary" if primary else "r",
        address="db:3306",
        host="db",
        user="app",
        database="shop",
        is_primary=primary,
        version="8.4.5" if server == "mysql" else "10.11.6-MariaDB",
        facts=facts,
        fitness=Fitness("up", "", "primary", 0.0) if primary else UP,
        channels=[] if primary else [{"Using_Gtid": "Slave_Pos", "Auto_Position": "1"}],
        variables={"gtid_mode": "ON", "log_bin": "ON", "max_connections": "151", "super_read_only": "OFF"},
        session=SETTINGS,
        status={"threads_connected": "3", "ssl_cipher": "TLS_AES_256_GCM_SHA384"},
        account="app@%",
        grants=("GRANT REPLICATION CLIENT, SLAVE MONITOR ON *.* TO `app`@`%`",),
    )


def told(node: NodeAnswers, **changed: Any) -> NodeAnswers:
    assert node.facts is not None
    return node._replace(facts=node.facts._replace(**changed))


def judged(node: NodeAnswers, state: Any, cause: str, role: Any = "replica", remark: str = "") -> NodeAnswers:
    return node._replace(fitness=Fitness(state, cause, role, 0.0, remark))


def failed(node: NodeAnswers, number: int) -> NodeAnswers:
    return node._replace(error=f"({number}, 'no')", number=number, facts=None, fitness=None, account="")


def with_status(node: NodeAnswers, **changed: str) -> NodeAnswers:
    return node._replace(status={**node.status, **changed})


def with_settings(node: NodeAnswers, **changed: str) -> NodeAnswers:
    return node._replace(session={**node.session, **changed})


def with_variables(node: NodeAnswers, **changed: str) -> NodeAnswers:
    return node._replace(variables={**node.variables, **changed})


def granted(node: NodeAnswers, *grants: str) -> NodeAnswers:
    return node._replace(grants=grants)
