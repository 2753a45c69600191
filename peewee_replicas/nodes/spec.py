"""How nodes are configured: connection parameters checked, laid over the primary's, compared. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

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
    overrides: Mapping[str, object]


def node_specs(
    replicas: object,
    known: frozenset[str] | None,
    parse_url: Callable[[str], dict[str, object]],
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


def _node_spec(given: dict[str, object], label: str, known: frozenset[str] | None, fail: Fail) -> NodeSpec:
    for alias, canonical in _ALIASES.items():
        if alias in given:
            given.setdefault(canonical, given.pop(alias))
    if not given.get("database", True):
        del given["database"]  # a URL without a path
    weight = given.pop("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= _LARGEST_WEIGHT:
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


def _parsed(
    text: str, label: str, parse_url: Callable[[str], dict[str, object]], fail: Fail
) -> dict[str, object]:
    if "://" not in text:
        return _host_and_port(text, label, fail)
    try:
        return parse_url(text)
    except ValueError as exc:
        raise fail(f"{label}: the URL cannot be read: {exc}") from exc


def _host_and_port(text: str, label: str, fail: Fail) -> dict[str, object]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, colon, port = text, "", ""
    if not host or (colon and not port.isdigit()):
        raise fail(f"{label}={text!r}: 'host', 'host:port' or a URL is wanted")
    found: dict[str, object] = {"host": host.strip("[]")}
    if port:
        found["port"] = int(port)
    return found


def overlay(primary: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
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


def endpoint(parameters: Mapping[str, object]) -> str:
    """Where the parameters lead to, in a form in which equal endpoints are equal."""
    if parameters.get("unix_socket"):
        return str(parameters["unix_socket"])
    host = str(parameters.get("host") or "localhost").lower().rstrip(".")
    return f"{'localhost' if host in _LOOPBACK else host}:{parameters.get('port') or 3306}"


def same_connection(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two sets of parameters lead to the same place in the same way."""
    where = ("host", "port", "unix_socket")
    rest = [{name: given[name] for name in given if name not in where} for given in (one, other)]
    return endpoint(one) == endpoint(other) and rest[0] == rest[1]


def address(parameters: Mapping[str, object]) -> str:
    """Where the parameters lead to, as the user wrote it."""
    if parameters.get("unix_socket"):
        return str(parameters["unix_socket"])
    return f"{parameters.get('host') or 'localhost'}:{parameters.get('port') or 3306}"
