"""The arguments of the database classes: checked when given, laid over one another, compared. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ..statements.classifier import Classifier
from .policies import POLICIES, Policy

OWN_ARGUMENTS = (
    "replicas",
    "policy",
    "reads",
    "fallback",
    "readonly_in_transaction",
    "pure_functions",
    "consistency",
    "catch_up_timeout",
    "sticky_seconds",
    "max_lag",
    "max_fallback_share",
    "on_transaction_escape",
    "probe_interval",
    "heartbeat_table",
)

_CHOICES = {
    "reads": ("replica", "primary", "observe"),
    "fallback": ("primary", "error"),
    "readonly_in_transaction": ("error", "join"),
    "consistency": ("session", "eventual", "process", "strong"),
    "on_transaction_escape": ("ignore", "warn", "error"),
}
_SECONDS = {"catch_up_timeout": 0.5, "sticky_seconds": 2.0}
_SECONDS_OR_NONE = {"max_lag": 10.0, "probe_interval": 1.0}
_TABLE = re.compile(r"(?:[\w$]+\.)?[\w$]+")
_ALIASES = {"passwd": "password", "db": "database"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LARGEST_WEIGHT = 100

Fail = Callable[[str], Exception]
"""Makes the exception to raise from a message."""


class NodeSpec(NamedTuple):
    """One replica as it was configured.

    Attributes:
        name: how it is called in events, errors and statistics.
        weight: its share of the reads, relative to the others'; 0 keeps it out of rotation.
        overrides: connection parameters laid over the primary's.
    """

    name: str
    weight: int
    overrides: Mapping[str, Any]


class Settings(NamedTuple):
    """The routing arguments of one database, checked."""

    policy: Policy
    reads: str
    fallback: str
    readonly_in_transaction: str
    pure_functions: tuple[str, ...]
    consistency: str
    catch_up_timeout: float
    sticky_seconds: float
    max_lag: float | None
    max_fallback_share: float | None
    on_transaction_escape: str
    probe_interval: float | None
    heartbeat_table: str | None


def checked(arguments: Mapping[str, Any], fail: Fail) -> Settings:
    """Check the routing arguments, apart from ``replicas``."""
    chosen = {}
    for name, allowed in _CHOICES.items():
        value = chosen[name] = arguments.get(name, allowed[0])
        if value not in allowed:
            raise fail(f"{name}={value!r}: allowed are {', '.join(map(repr, allowed))}")
    seconds: dict[str, Any] = {}
    for name, default in _SECONDS.items():
        value = seconds[name] = arguments.get(name, default)
        if not _is_number(value) or not 0 <= value < float("inf"):
            raise fail(f"{name}={value!r}: a number of seconds is wanted, 0 or more")
    for name, default in _SECONDS_OR_NONE.items():
        value = seconds[name] = arguments.get(name, default)
        if value is not None and (not _is_number(value) or not 0 < value < float("inf")):
            raise fail(f"{name}={value!r}: a number of seconds above 0 is wanted, or None")
    share = arguments.get("max_fallback_share")
    if share is not None and (not _is_number(share) or not 0 <= share <= 1):
        raise fail(f"max_fallback_share={share!r}: a share from 0 to 1 is wanted, or None")
    table = arguments.get("heartbeat_table")
    if table is not None and (not isinstance(table, str) or not _TABLE.fullmatch(table)):
        raise fail(f"heartbeat_table={table!r}: 'table' or 'schema.table' is wanted, or None")
    return Settings(
        **seconds,
        max_fallback_share=share,
        heartbeat_table=table,
        policy=_policy(arguments.get("policy", "round-robin"), fail),
        pure_functions=_functions(arguments.get("pure_functions", ()), fail),
        **chosen,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _functions(value: Any, fail: Fail) -> tuple[str, ...]:
    if isinstance(value, str):
        # As in a URL: names with commas between them.
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, Iterable):
        raise fail(f"pure_functions={value!r}: a list of names of stored functions is wanted")
    names = tuple(value)
    try:
        Classifier(None, names)
    except ValueError as exc:
        raise fail(str(exc)) from None
    return names


def _policy(value: Any, fail: Fail) -> Policy:
    if isinstance(value, str) and value in POLICIES:
        return POLICIES[value]()
    if isinstance(value, type):
        value = value()
    if hasattr(value, "fresh"):
        # One policy object given to two databases must not become state that they share.
        fresh: Policy = value.fresh()
        return fresh
    if callable(value):
        return value  # type: ignore[no-any-return]  # the user's own callable
    raise fail(
        f"policy={value!r}: allowed are {', '.join(map(repr, POLICIES))}, "
        "or a callable that returns one of the replicas it is given"
    )


def node_specs(
    replicas: Any,
    known: frozenset[str] | None,
    parse_url: Callable[[str], dict[str, Any]],
    fail: Fail,
) -> tuple[NodeSpec, ...]:
    """Check the ``replicas`` argument.

    Parameters:
        replicas: dicts of connection parameters, or URLs.
        known: the connection parameters that exist; None where a subclass may have its own.
        parse_url: turns a URL into connection parameters.
        fail: makes the exception to raise from a message.
    """
    if isinstance(replicas, (str, Mapping)) or not isinstance(replicas, Iterable):
        raise fail(f"replicas={replicas!r}: a list is wanted, of dicts of connection parameters or of URLs")
    specs = []
    for place, given in enumerate(replicas):
        label = f"replicas[{place}]"
        if isinstance(given, str):
            found = _parsed(given, label, parse_url, fail)
        elif isinstance(given, Mapping):
            found = dict(given)
        else:
            raise fail(f"{label}={given!r}: a dict of connection parameters or a URL is wanted")
        specs.append(_node_spec(found, label, known, fail))
    names = [spec.name for spec in specs if spec.name]
    for name in names:
        if names.count(name) > 1:
            raise fail(f"replicas: two are called {name!r}; every node needs a name of its own")
    return tuple(specs)


def _node_spec(given: dict[str, Any], label: str, known: frozenset[str] | None, fail: Fail) -> NodeSpec:
    for alias, canonical in _ALIASES.items():
        if alias in given:
            given.setdefault(canonical, given.pop(alias))
    if not given.get("database", True):
        del given["database"]  # a URL without a path
    weight = given.pop("weight", 1)
    whole = isinstance(weight, int) and not isinstance(weight, bool)
    if not whole or not 0 <= weight <= _LARGEST_WEIGHT:
        raise fail(f"{label}: weight={weight!r}: wanted is a whole number, 0 to {_LARGEST_WEIGHT}")
    name = given.pop("name", None)
    if name is not None and (not isinstance(name, str) or not name or name == "primary"):
        raise fail(f"{label}: name={name!r}: a word other than 'primary' is wanted")
    if "unix_socket" in given and ("host" in given or "port" in given):
        raise fail(
            f"{label}: give host and port, or unix_socket, not both; the driver would use the socket alone"
        )
    for key in given:
        if known is not None and key not in known:
            close = difflib.get_close_matches(str(key), [*known, "name", "weight"], 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise fail(f"{label}: {key!r} is no connection parameter{hint}")
    if not given:
        raise fail(f"{label}: says nothing about where the replica is; give at least its host")
    if "host" in given and (not isinstance(given["host"], str) or not given["host"].strip()):
        # The driver would take it for localhost, which may be the primary.
        raise fail(f"{label}: host={given['host']!r}: a host's name or address is wanted")
    port = given.get("port", 3306)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise fail(f"{label}: port={port!r}: a whole number from 1 to 65535 is wanted")
    return NodeSpec(name or "", weight, given)


def _parsed(text: str, label: str, parse_url: Callable[[str], dict[str, Any]], fail: Fail) -> dict[str, Any]:
    if "://" not in text:
        return _host_and_port(text, label, fail)
    try:
        return parse_url(text)
    except ValueError as exc:
        raise fail(f"{label}: the URL cannot be read: {exc}") from exc


def _host_and_port(text: str, label: str, fail: Fail) -> dict[str, Any]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, colon, port = text, "", ""
    if not host or (colon and not port.isdigit()):
        raise fail(f"{label}={text!r}: 'host', 'host:port' or a URL is wanted")
    found: dict[str, Any] = {"host": host.strip("[]")}
    if port:
        found["port"] = int(port)
    return found


def overlay(primary: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A replica's connection parameters: its own, and the primary's where it has none.

    ``host`` and ``port`` on one side and ``unix_socket`` on the other are one group: a replica that is
    given by host must not inherit the primary's socket, which the driver would prefer.
    """
    merged = dict(primary)
    if "host" in overrides or "port" in overrides:
        merged.pop("unix_socket", None)
    if "unix_socket" in overrides:
        merged.pop("host", None)
        merged.pop("port", None)
    for alias, name in _ALIASES.items():
        if name in overrides:
            merged.pop(alias, None)
    merged.update(overrides)
    return merged


def endpoint(parameters: Mapping[str, Any]) -> str:
    """Where the parameters lead to, in a form in which equal endpoints are equal."""
    if parameters.get("unix_socket"):
        return str(parameters["unix_socket"])
    host = str(parameters.get("host") or "localhost").lower().rstrip(".")
    return f"{'localhost' if host in _LOOPBACK else host}:{parameters.get('port') or 3306}"


def same_connection(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of parameters lead to the same place in the same way."""
    where = ("host", "port", "unix_socket")
    rest = [{name: given[name] for name in given if name not in where} for given in (one, other)]
    return endpoint(one) == endpoint(other) and rest[0] == rest[1]


def address(parameters: Mapping[str, Any]) -> str:
    """Where the parameters lead to, as the user wrote it."""
    if parameters.get("unix_socket"):
        return str(parameters["unix_socket"])
    return f"{parameters.get('host') or 'localhost'}:{parameters.get('port') or 3306}"
