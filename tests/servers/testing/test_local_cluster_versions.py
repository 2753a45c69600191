"""Clusters of other versions than the system's, unpacked into folders of their own.

The versions are those that `scripts/test` has `scripts/install-servers` get from Debian.
"""

from __future__ import annotations

import shutil
from contextlib import closing

import pymysql
import pytest
from support.clusters import require

from peewee_replicas.testing import LocalCluster

pytestmark = pytest.mark.once


@pytest.mark.parametrize("version", ["10.5.23", "10.5.29", "11.8"])
def test_an_unpacked_version_replicates(version: str) -> None:
    require("mariadb", version)
    with LocalCluster(1, "mariadb", version=version) as cluster:
        assert f"{cluster.version}.".startswith(f"{version}.")
        cluster.primary.execute("CREATE TABLE app.t (n INT, name TEXT) CHARACTER SET utf8mb4")
        cluster.primary.execute("INSERT INTO app.t VALUES (1, 'ä')")
        cluster.sync()
        replica = cluster.replicas[0]
        assert replica.execute("SELECT n, name FROM app.t") == [(1, "ä")]
        assert replica.execute("SELECT @@version")[0][0].startswith(cluster.version)
        (key,) = replica.execute("SELECT @@ssl_key")[0]
        # Since 11.4 the server would make a key at every start, which takes longer than the rest of it.
        assert (key is not None) == (version == "11.8" and shutil.which("openssl") is not None)
        accounts = "SELECT User FROM mysql.user WHERE Host = '%' OR User = 'root'"
        if version == "11.8":
            tls = {"check_hostname": False, "verify_mode": "none"}
            connecting = closing(pymysql.connect(**cluster.parameters(replica), ssl=tls))
            with connecting as connection, connection.cursor() as cursor:
                cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
                assert cursor.fetchall()[0][1]
        assert {user for (user,) in replica.execute(accounts)} == {"admin", "app", "cluster", "replication"}
