"""No message of the library's own is made of words that may quote a value or a password.

The places were listed by walking the package's source for all that becomes text for people: the arguments
of each ``raise``, of ``fail()``, of each log record and of ``warnings``, each ``__repr__`` and
``__str__``, and what `RouteEvent` and `NodeEvent` are given. In them this test finds what can hold a value:
the words of an exception, a statement's text, its parameters, an argument as it was given. Each such place
stands below with the reason why it is harmless, or uses `in_words`, `named`, `redacted` or `shown`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "peewee_replicas"

# Names under which the package keeps what may hold a value.
RISKY = {
    "exc",
    "error",
    "bug",
    "sql",
    "params",
    "parameters",
    "overrides",
    "given",
    "arguments",
    "password",
    "url",
}
SAFE_CALLS = {"in_words", "named", "redacted", "shown", "type"}

HARMLESS = {
    "aio.connection.connect": "the system's words for a socket",
    "bookmarks.decode": "what is wrong with a bookmark, which holds positions alone",
    "cli.target._by_path": "the words of an import that failed",
    "connections.checks._log_untracked": "the words of in_words()",
    "connections.primary_failures._look_for_changed_roles": "1290, whose words are the server's alone",
    "connections.replica_connections._check_ready": "what a server's settings cannot be told for",
    "connections.replica_connections._wait_for_cluster": "what a server's settings cannot be told for",
    "execution.attempt.violation": "a server's refusal: 1290, 1792 and 1836 quote nothing",
    "errors.importing_extra": "the words of an import that failed",
    "ext.cookies._checked_secrets": "the words of sign(), which name the length alone",
    "ext.jobs._scoped": "what is wrong with a bookmark",
    "nodes.probe_rounds.failed": "a fault of the library's own, to be reported",
    "servers.wire.connection._check_still_open": "the system's words for a socket",
    "servers.wire.connection._lost": "the system's words for a socket",
    "servers.wire.connection._write_bytes": "the system's words for a socket",
    "servers.wire.dialing.dial": "the system's words for a socket",
    "servers.wire.system_errors.tls_not_prepared": "the words of TLS for a file or a certificate",
}
SPEAKING = (
    "Error", "Event", "Expired", "NoReplicaAvailable", "OutcomeUnknown", "PrimaryReadOnly", "Violation",
    "explained", "fail",
)  # fmt: skip


def texts(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What becomes text for people, with the name of its function."""

    def walk(node: ast.AST, function: str, speaks: bool) -> Iterator[tuple[str, ast.expr]]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
            speaks = node.name in ("__repr__", "__str__")
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from walk(node.exc, function, True)
            return
        if isinstance(node, ast.Call) and _speaks(node.func):
            speaks = True
        if speaks and isinstance(node, ast.FormattedValue):
            yield function, node.value
            if node.conversion == ord("r"):
                yield function, ast.Call(func=ast.Name("repr"), args=[node.value], keywords=[])
        if speaks and isinstance(node, ast.Call) and _logs(node.func):
            named = (keyword.value for keyword in node.keywords if keyword.arg != "exc_info")
            for argument in (*node.args[1:], *named):
                yield function, argument
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function, speaks)

    yield from walk(tree, "", False)


def _speaks(function: ast.expr) -> bool:
    if _logs(function):
        return True
    if isinstance(function, ast.Name):
        return function.id.endswith(SPEAKING)
    if not isinstance(function, ast.Attribute):
        return False
    return function.attr in ("tell", "failed", "back_off", "cannot_read", "say")


def _logs(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "log_event"
    owner = function.value if isinstance(function, ast.Attribute) else None
    return isinstance(owner, ast.Name) and owner.id in ("logger", "warnings", "err")


def risky(value: ast.expr) -> bool:
    """Whether an expression shows one of the risky names as it is."""
    if isinstance(value, ast.Call):
        called = value.func.id if isinstance(value.func, ast.Name) else ""
        if called in SAFE_CALLS:
            return False
        if called in ("str", "repr"):
            return any(risky(argument) for argument in value.args)
        return False
    return isinstance(value, ast.Name) and value.id in RISKY


def found() -> dict[str, set[str]]:
    places: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "testing" in path.parts:
            continue  # its servers and passwords are made for one test
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for function, value in texts(ast.parse(path.read_text())):
            if risky(value):
                places.setdefault(f"{module}.{function}", set()).add(ast.unparse(value))
    return places


def test_each_message_that_shows_what_may_be_a_value_is_known_to_be_harmless() -> None:
    places = found()
    assert {place: names for place, names in places.items() if place not in HARMLESS} == {}
    assert set(HARMLESS) <= set(places), "a reason that is no longer needed"


def test_such_places_are_found() -> None:
    tree = ast.parse(
        "def f(exc, sql):\n"
        "    raise ValueError(f'no: {exc}')\n"
        "def g(exc):\n"
        "    logger.warning('no: %s', exc)\n"
        "def i(exc):\n"
        "    log_event('name', 'no: %s', exc)\n"
        "def j(exc):\n"
        "    log_event('name', 'no', cause=str(exc))\n"
        "def h(exc, fail, value, given):\n"
        "    raise fail(f'no {given!r}')\n"
        "def __repr__(self, password):\n"
        "    return f'<{password}>'\n"
        "def harmless(exc):\n"
        "    raise ValueError(f'no: {in_words(exc)}')\n"
    )
    assert {function for function, value in texts(tree) if risky(value)} == {
        "f",
        "g",
        "h",
        "i",
        "j",
        "__repr__",
    }
