"""HAProxy in front of a cluster: one address for the primary, one for all replicas."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .peers.base import Address

# The AWS wrapper's plugin connects to the port that MySQL has by default, whatever port it was given.
PORT = 3306
CHECKER = "haproxy_check"
# HAProxy's own check logs in by `mysql_native_password`, which MySQL 9 has no longer. There the check waits
# for the first bytes of the greeting: packet 0, protocol 10.
CHECKS = {
    "mariadb": f"option mysql-check user {CHECKER}",
    "mysql": "option tcp-check\n    tcp-check expect binary 000a",
}

CONFIGURATION = """\
global
    maxconn 2000
    nbthread 1
defaults
    mode tcp
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    {check}
    default-server check inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
listen writers
    bind {writers}:{port}
    server primary {primary}
listen readers
    bind {readers}:{port}
    balance roundrobin
{servers}
"""


def program() -> str | None:
    """Where HAProxy is, None where it is not."""
    return shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


def version() -> str:
    """What it calls itself."""
    found = program()
    if found is None:
        return "not installed"
    first = subprocess.run([found, "-v"], capture_output=True, text=True, check=True).stdout.split()
    return first[2].split("-")[0]


@contextmanager
def haproxy(cluster: Any, replicas: int) -> Iterator[tuple[Address, Address]]:
    """The two addresses, for as long as the block lasts; the second leads to the first so many replicas.

    Raises `RuntimeError` where HAProxy is not installed or does not come up.
    """
    found = program()
    if found is None:
        raise RuntimeError("HAProxy is not installed")
    cluster.primary.execute(f"CREATE USER IF NOT EXISTS {CHECKER}@'%'")
    cluster.sync()
    network = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"
    writers, readers = Address(f"{network}.1", PORT), Address(f"{network}.2", PORT)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "haproxy.cfg"
        nodes = cluster.replicas[:replicas]
        servers = "\n".join(f"    server {node.name} {node.host}:{node.port}" for node in nodes)
        primary = f"{cluster.primary.host}:{cluster.primary.port}"
        file.write_text(
            CONFIGURATION.format(
                check=CHECKS[cluster.server],
                writers=writers.host,
                readers=readers.host,
                port=PORT,
                primary=primary,
                servers=servers,
            )
        )
        log = (Path(folder) / "log").open("w+")
        process = subprocess.Popen([found, "-db", "-f", str(file)], stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(process, readers, log)
            yield writers, readers
        finally:
            process.terminate()
            process.wait(10)
            log.close()


def _wait(process: subprocess.Popen[Any], address: Address, log: Any) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(address, 1):
                return
        except OSError:
            time.sleep(0.02)  # it gives no sign of being up but that
    log.seek(0)
    raise RuntimeError(f"HAProxy did not come up: {log.read()[-500:]}")
