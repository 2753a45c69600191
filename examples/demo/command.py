"""The command: ``scripts/demo [--server mariadb|mysql] [--replicas N] [--sqlite]``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peewee_replicas.testing import LocalCluster, MissingServer

from .screen import Screen, ScreenHandler

_TITLES = {"mariadb": "MariaDB", "mysql": "MySQL"}
_FEWEST, _MOST = 2, 9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if every check has passed, 1 if one has failed, 2 if it could not begin."""
    options = _parser().parse_args(arguments)
    screen = Screen(sys.stdout)
    with _log_on(screen):
        try:
            if options.sqlite:
                _on_sqlite(screen, options.replicas)
            else:
                _on_servers(screen, options.server, options.replicas)
        except MissingServer as exc:
            print(f"{exc}\n--sqlite shows the part that needs no server.", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception as exc:
            traceback.print_exc()
            screen.check(False, f"the demo came to its end: {type(exc).__name__}: {exc}")
    return 0 if screen.result() else 1


def _on_servers(screen: Screen, server: str, replicas: int) -> None:
    from .on_servers import ServerDemo

    screen.title("peewee_replicas: reads go to the replicas, writes to the primary")
    screen.step(f"starting a {_TITLES[server]} primary and {replicas} replicas on this machine")
    with LocalCluster(replicas, server) as cluster:  # type: ignore[arg-type]  # argparse has checked it
        names = ", ".join(f"{node.name} :{node.port}" for node in cluster.nodes)
        screen.step(f"{_TITLES[server]} {cluster.version} is up and replicates: {names}")
        ServerDemo(cluster, screen).run()


def _on_sqlite(screen: Screen, readers: int) -> None:
    from .on_sqlite import SqliteDemo

    with tempfile.TemporaryDirectory(prefix="peewee_replicas-") as folder:
        SqliteDemo(Path(folder) / "demo.db", readers, screen).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Start real servers on this machine, run a program on them, kill one, "
        "and show what each server counted.",
    )
    parser.add_argument("--server", choices=tuple(_TITLES), default="mariadb", help="default: mariadb")
    parser.add_argument("--replicas", type=_number, default=3, metavar="N", help="2 to 9; default: 3")
    parser.add_argument("--sqlite", action="store_true", help="no server: one SQLite file, N readers")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or not _FEWEST <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from {_FEWEST} to {_MOST}; one gets killed")
    return int(text)


@contextmanager
def _log_on(screen: Screen) -> Iterator[None]:
    logger = logging.getLogger("peewee.replicas")
    handler = ScreenHandler(screen)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)  # that a node works again is no warning
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
