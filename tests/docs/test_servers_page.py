"""`docs/servers.md`: with the lines of `my.cnf` and the statements on it, the doctor finds nothing.

The blocks of the page are told apart by their notes, such as "on the primary, MySQL".
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.clusters import SERVERS, own_cluster
from support.pages import ROOT, noted, statements

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.cli.findings import find_faults
from peewee_replicas.cli.survey import survey
from peewee_replicas.testing.installations import Server

PAGE = "docs/servers.md"
NAMES: dict[Server, str] = {"mariadb": "MariaDB", "mysql": "MySQL"}
# The cluster has accounts of these names already.
ACCOUNTS = {"'app'@": "'page_app'@", "'replication'": "'page_replication'"}


def options(note: str) -> dict[str, object]:
    """The lines of a my.cnf, without what each server of a cluster is given anyway."""
    lines = [line.split("=", 1) for line in noted(PAGE, note).splitlines() if "=" in line]
    told: dict[str, object] = {name.strip(): value.strip().strip("'") for name, value in lines}
    told.pop("server_id", None)
    return told


@pytest.mark.parametrize("server", SERVERS)
def test_with_what_the_page_says_the_doctor_finds_nothing(server: Server) -> None:
    name = NAMES[server]
    every, replica = options(f"my.cnf of every node, {name}"), options(f"my.cnf of a replica, {name}")
    with own_cluster(server, 1, database="old", options={"*": every, "replica-1": replica}) as cluster:
        primary, follower = cluster.nodes
        for sql in statements(PAGE, f"on the primary, {name}", ACCOUNTS):
            primary.execute(sql)
        stop = "STOP SLAVE" if server == "mariadb" else "STOP REPLICA"
        follower.execute(stop)
        at = f"'{primary.host}', {'MASTER' if server == 'mariadb' else 'SOURCE'}_PORT = {primary.port}"
        for sql in statements(PAGE, f"on a replica, {name}", {**ACCOUNTS, "'primary.db'": at}):
            follower.execute(sql)
        cluster.sync()
        parameters: dict[str, Any] = {
            **cluster.parameters("primary"), "user": "page_app", "password": "a password", "database": "app",
            "replicas": [{"host": follower.host, "port": follower.port}],
        }  # fmt: skip
        db = ReplicatedDatabase(parameters.pop("database"), **parameters)
        try:
            assert find_faults(survey(db, 10)) == []
        finally:
            db.close()
            db.dispose()


def test_the_compose_file_has_the_lines_of_my_cnf() -> None:
    everywhere = options("my.cnf of every node, MariaDB")
    everywhere.pop("default_time_zone")  # containers have one zone
    commands = re.findall(r"command: (.*)", (ROOT / PAGE).read_text(encoding="utf-8"))
    assert len(commands) == 3
    for number, command in enumerate(commands, 1):
        given = dict(word.removeprefix("--").split("=", 1) for word in command.split())
        wanted = {name.replace("_", "-"): value for name, value in everywhere.items()}
        if number > 1:
            wanted["read-only"] = "ON"
        assert given == {**wanted, "server-id": str(number)}
