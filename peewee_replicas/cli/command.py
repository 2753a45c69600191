"""The command line: its arguments, and what each command prints and returns."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from peewee import PeeweeException

from peewee_replicas.databases.replicated import Replicated
from peewee_replicas.databases.routed_members import members_of
from peewee_replicas.databases.sqlite import ReplicatedSqliteDatabase
from peewee_replicas.errors import ReadOnlyViolation
from peewee_replicas.servers.error_meanings import in_words
from peewee_replicas.servers.protocols import ServerConnection

from . import explain, status, topologies
from .findings import Finding, find_faults
from .output import BAD, GOOD, print_json, print_table
from .survey import survey
from .target import BadTarget, find

OK, FOUND, FAILED = 0, 1, 2
"""Exit codes: all is well, or a replica may serve it; something was found; the command could not be run."""

_TARGET = "package.module:name of a database object, or a URL such as mysql+replicas://…"
_EPILOG = """
exit codes:
  0  status: every node is up; doctor: nothing found; explain: a replica may serve it
  1  status: a node is not up; doctor: something found; explain: the primary serves it, or it is refused
  2  the command could not be run: no such target, or a wrong argument
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    Parameters:
        arguments: the words after the command's name; None: those of this process.
    """
    options = _parser().parse_args(arguments)
    logger = logging.getLogger("peewee.replicas")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # what it would log is in the answer
    try:
        database = find(options.target)
        discovery = members_of(database).parts.cluster.discovery
        if discovery is not None:
            discovery.look()  # its thread would begin only with a statement
        code: int = options.run(database, options)
        return code
    except BadTarget as exc:
        print(f"pwreplicas: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return OK if getattr(options, "watch", False) else FAILED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output, such as `head`, has seen enough
        return OK
    finally:
        logger.setLevel(before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pwreplicas",
        description="Shows where statements go, how the nodes are, and what is set up wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: object, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.add_argument("target", metavar="TARGET", help=_TARGET)
        made.add_argument("--json", action="store_true", help="print JSON, one document to a line")
        made.add_argument(
            "--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="limit for each answer (5)"
        )
        made.set_defaults(run=run)
        return made

    look = command("status", _status, "show each node: state, role, whom it follows, lag and position")
    look.add_argument("--watch", action="store_true", help="look again and again, until interrupted")
    look.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="pause between two looks (2)"
    )
    command("explain", _explain, "show where a statement goes, and why").add_argument(
        "sql", metavar="SQL", help="the statement, with placeholders as the program writes it"
    )
    doctor = command("doctor", _doctor, "look for what is set up wrong, and say how to mend it")
    doctor.add_argument(
        "--processes", type=int, default=1, metavar="N", help="how many processes use the database (1)"
    )
    doctor.add_argument(
        "--topologies",
        action="store_true",
        help="list the topologies that were tried, and which is here",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{text}: a number of seconds above 0 is wanted")
    return value


def _status(database: Replicated, options: argparse.Namespace) -> int:
    while True:
        code = _one_status(database, options)
        if not options.watch:
            return code
        time.sleep(options.interval)  # the pause that the user asked for
        if sys.stdout.isatty() and not options.json:
            print("\033[2J\033[H", end="")  # clears the screen
        elif not options.json:
            print()


def _one_status(database: Replicated, options: argparse.Namespace) -> int:
    columns: tuple[str, ...]
    undiscovered = ""
    if isinstance(database, ReplicatedSqliteDatabase):
        columns, rows = status.FILE_COLUMNS, status.file_rows(database.health(), str(database.database))
    else:
        found = survey(database, options.timeout)
        rows, undiscovered = status.rows(found), found.undiscovered
        columns = status.columns(rows)
    if options.json:
        print_json({"nodes": rows, "undiscovered": undiscovered})
    else:
        colours = {"up": GOOD, "down": BAD, "unfit": BAD, "lagging": BAD, "read-only": BAD, "behind": BAD}
        print_table(columns, [status.cells(row, columns) for row in rows], colours)
        for note in status.notes(rows):
            print(note)
        if undiscovered:
            print(f"replicas: the callable named no nodes: {undiscovered}")
    return OK if all(row["ok"] for row in rows) and not undiscovered else FOUND


def _explain(database: Replicated, options: argparse.Namespace) -> int:
    parts = members_of(database).parts
    asked = _learn(database, options.timeout)
    statement = parts.router.classifier.classify(options.sql)
    told: dict[str, object]
    try:
        route = database.explain_route(options.sql)
        told = route._asdict()
    except ReadOnlyViolation as exc:
        told = {"role": None, "node": None, "kind": statement.kind, "reason": str(exc), "cause": ""}
    proof = explain.prove(options.sql, parts.router.classifier.rules)
    if options.json:
        told["servers_asked"] = asked
        told["proof"] = None if proof is None else proof._asdict()
        print_json(told)
    else:
        where = str(told["role"] or "refused") + (f" ({told['node']})" if told["node"] else "")
        print(f"kind    {told['kind']}\nroute   {where}")
        if told["cause"]:
            print(f"cause   {told['cause']}")
        print(f"reason  {told['reason']}")
        print("proof" if proof is not None else "proof   the statement is too long to show")
        for line in proof.lines() if proof is not None else ():
            print(line)
        if not asked:
            print("no server answered, so only what every version of MySQL and MariaDB has counts as proven")
    return OK if told["role"] == "replica" else FOUND


def _learn(database: Replicated, seconds: float) -> bool:
    """Learn which servers there are and how they are; return whether any of them answered."""
    parts = members_of(database).parts
    if isinstance(database, ReplicatedSqliteDatabase):
        return True
    opened: list[ServerConnection] = []
    asked = False
    for node in dict.fromkeys((parts.cluster.reader, *parts.cluster.replicas.all)):
        try:
            conn = parts.replicas.open_probe(node, seconds, opened.append)
        except Exception:
            continue  # `status` shows why
        asked = True
        parts.router.learn_server(conn.dialect.NAME, conn.server_version)
        conn.close()
    if parts.cluster.prober is not None:
        parts.cluster.prober.use(parts.replicas)
        parts.cluster.prober.wait_for_first_look(seconds)
        parts.cluster.prober.stop()
    return asked


def _doctor(database: Replicated, options: argparse.Namespace) -> int:
    known: list[dict[str, object]] = []
    if isinstance(database, ReplicatedSqliteDatabase):
        found = _examine_file(database)
    else:
        asked = survey(database, options.timeout)
        found = find_faults(asked, options.processes)
        if options.topologies:
            known = topologies.rows(asked)
    if options.json:
        told: dict[str, object] = {"findings": [finding._asdict() for finding in found]}
        print_json({**told, "topologies": known} if known else told)
    elif not found:
        print("nothing found")
    else:
        for finding in found:
            print(f"{finding.node}: {finding.cause} [{finding.code}]")
            for line in finding.remedy.splitlines():
                print(f"    {line}")
    if known and not options.json:
        print()
        print_table(topologies.COLUMNS, [topologies.cells(row) for row in known], {})
    return FOUND if found else OK


def _examine_file(database: Replicated) -> list[Finding]:
    try:
        database.connect(reuse_if_open=True)
        database.close()
    except PeeweeException as exc:
        return [Finding("unreachable", "primary", in_words(exc), "make the file readable and writable")]
    return []
