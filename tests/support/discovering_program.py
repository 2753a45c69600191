"""A program in a network of its own, with a real name server on loopback, whose database asks that server.

Parameters: a folder to write to. It prints one JSON document: the replicas after each change of the names.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.proxies.name_server import NameServer
from support.waiting import until

from peewee_replicas import ReplicatedDatabase
from peewee_replicas.discover import dns, srv

NAME = "replicas.test"
SERVICE = f"_mysql._tcp.{NAME}"


def prepare(folder: Path) -> None:
    """Turn loopback on, and let this network's names be asked for there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        up = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP and IFF_RUNNING
        fcntl.ioctl(sock, 0x8914, up)  # SIOCSIFFLAGS
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)


def database(replicas: Callable[[], Any]) -> Any:
    made: Any = ReplicatedDatabase(
        "app", host="127.0.0.1", port=1, replicas=replicas, refresh=0.05, probe_interval=None
    )
    made._parts.replicas.attend()  # as the first statement does
    return made


def names(db: Any) -> list[str]:
    return sorted(replica.name for replica in db.replicas)


def changed(db: Any, wanted: list[str]) -> list[str]:
    until(lambda: names(db) == sorted(wanted))
    return names(db)


def failed(db: Any, words: str = "") -> list[str]:
    until(lambda: words in db._parts.cluster.discovery.failure != "")
    return names(db)


def main(folder: Path) -> dict[str, Any]:
    prepare(folder)
    server = NameServer(folder, NAME)
    told: dict[str, Any] = {}
    try:
        server.name("10.0.0.1", "10.0.0.2", "fd00::3")
        server.start()
        db = database(dns(NAME, 3307))
        told["all"] = changed(db, ["10.0.0.1:3307", "10.0.0.2:3307", "fd00::3:3307"])
        server.name("10.0.0.2", "10.0.0.4")
        told["others"] = changed(db, ["10.0.0.2:3307", "10.0.0.4:3307"])
        server.name()
        told["none"] = failed(db)
        server.name("10.0.0.5")
        told["again"] = changed(db, ["10.0.0.5:3307"])
        server.stop()
        told["no name server"] = failed(db)
        db.dispose()

        server.start(f"--srv-host={SERVICE},a.test,3307,0,2", f"--srv-host={SERVICE},b.test,3306,5,1")
        db = database(srv(SERVICE))
        told["service"] = changed(db, ["a.test:3307"])
        server.stop()
        told["service, no name server"] = failed(db)
        server.start(f"--srv-host={SERVICE},c.test,3306,0,1", "--local-ttl=3600")
        told["service again"] = changed(db, ["c.test:3306"])
        server.stop()
        for _ in range(3):
            db._parts.cluster.discovery.look()
        told["service in its time to live"] = [names(db), db._parts.cluster.discovery.failure]
        db.dispose()
    finally:
        server.stop()
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
