"""Checks nodes' connection parameters, merges them with the primary's, compares them. No I/O, no clock."""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeGuard

from ..statements.redaction import shown
from .callables import is_coroutine_function, takes_refused, why_not_callable
from .tags import NO_TAGS, Tags, check_tags

ALIASES = {"passwd": "password", "db": "database"}
"""Other names that PyMySQL accepts for its parameters."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LARGEST_WEIGHT = 100
# What a replica's dict may have besides connection parameters.
_OWN = ("name", "weight", "tags", "max_lag")
# A host name contains no URL delimiters, quotes or spaces.
_NAME = r"[^\s/?#@:\[\],;\\'\"]+"
_HOST = re.compile(_NAME)
_HOST_AND_PORT = re.compile(rf"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>{_NAME}))(?::(?P<port>[0-9]+))?")

Fail = Callable[[str], Exception]
"""Turns a message into the exception to raise."""


class NodeSpec(NamedTuple):
    """One replica as it was configured.

    Attributes:
        name: its name in events, errors and statistics.
        weight: its share of the reads, relative to the others'; 0 keeps it out of rotation.
        overrides: connection parameters that replace the primary's, and the sizes of its pool.
        tags: describe it, for scopes that ask for nodes by their tags.
        max_lag: the lag in seconds above which it is not used; None: no bound; ``"database"``: the
            database's own bound.
    """

    name: str
    weight: int
    overrides: Mapping[str, object]
    tags: Tags = NO_TAGS
    max_lag: float | Literal["database"] | None = "database"

    def __repr__(self) -> str:
        # Some tracebacks show local variables, and must not show a password.
        return f"<NodeSpec {self.name} {address(self.overrides)}, weight {self.weight}>"


def did_you_mean(word: object, allowed: Iterable[str]) -> str:
    """Return a hint to end a message with, if an allowed word resembles the given one; else ``""``."""
    close = difflib.get_close_matches(str(word).lower(), list(allowed), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def node_specs(
    replicas: object,
    known: frozenset[str] | None,
    parse_url: Callable[[str], dict[str, object]],
    fail: Fail,
    own: Collection[str] = (),
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> tuple[NodeSpec, ...]:
    """Check the ``replicas`` argument and return one spec per replica.

    Parameters:
        replicas: dicts of connection parameters, or URLs.
        known: the connection parameters that exist; None if a subclass may have its own.
        parse_url: turns a URL into connection parameters.
        fail: turns a message into the exception to raise.
        own: the names of the database's own arguments, which a replica may not have.
        elsewhere: hints for arguments that only other database classes take, by name.
    """
    if isinstance(replicas, (str, Mapping)) or not isinstance(replicas, Iterable):
        raise fail(
            f"replicas={shown(replicas)}: a list is wanted, of dicts of connection parameters or of URLs; "
            "for one replica it has one item, and in a URL it is written as replica=host"
        )
    specs = []
    for place, given in enumerate(replicas):
        label = f"replicas[{place}]"
        if isinstance(given, str):
            found = _parsed(given.strip(), label, parse_url, fail)
        elif isinstance(given, Mapping):
            found = dict(given)
        else:
            raise fail(f"{label}={shown(given)}: a dict of connection parameters or a URL is wanted")
        specs.append(_node_spec(found, label, known, fail, own, elsewhere))
    names = [spec.name for spec in specs if spec.name]
    for name in names:
        if names.count(name) > 1:
            raise fail(f"replicas: two are called {name!r}; every node needs its own name")
    return tuple(specs)


def _node_spec(
    given: dict[str, object],
    label: str,
    known: frozenset[str] | None,
    fail: Fail,
    own: Collection[str],
    elsewhere: Mapping[str, str],
) -> NodeSpec:
    for alias, canonical in ALIASES.items():
        if alias in given:
            given.setdefault(canonical, given.pop(alias))
    if not given.get("database", True):
        del given["database"]  # a URL without a path
    weight = given.pop("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= _LARGEST_WEIGHT:
        raise fail(f"{label}: weight={shown(weight)}: a whole number from 0 to {_LARGEST_WEIGHT} is wanted")
    name = given.pop("name", None)
    if name is not None and (not isinstance(name, str) or not name or name == "primary"):
        raise fail(f"{label}: name={shown(name)}: a word other than 'primary' is wanted")
    tags = check_tags(given.pop("tags", NO_TAGS), f"{label}: tags", fail)
    max_lag: float | Literal["database"] | None = "database"
    if "max_lag" in given:
        max_lag = _max_lag(given.pop("max_lag"), label, fail)
    if "unix_socket" in given and ("host" in given or "port" in given):
        raise fail(
            f"{label}: give host and port, or unix_socket, not both; the driver would use the socket alone"
        )
    for key in given:
        if known is not None and key not in known:
            if key in own:
                raise fail(f"{label}: {key!r} is an argument of the database, not of one replica")
            hint = f": {elsewhere[key]}" if key in elsewhere else did_you_mean(key, [*known, *_OWN])
            raise fail(f"{label}: {shown(key)} is no connection parameter{hint}")
    if not given:
        raise fail(f"{label}: says nothing about where the replica is; give at least its host")
    if "host" in given and (not isinstance(given["host"], str) or not given["host"].strip()):
        # The driver would connect to localhost instead, which may be the primary.
        raise fail(f"{label}: host={shown(given['host'])}: a host's name or address is wanted")
    port = given.get("port", 3306)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise fail(f"{label}: port={shown(port)}: a whole number from 1 to 65535 is wanted")
    if known is not None:  # a subclass that connects by itself may use other parameters
        check_place(given, f"{label}: ", fail)
        check_database(given.get("database"), f"{label}: ", fail)
        check_password(given, f"{label}: ", fail)
    return NodeSpec(name or "", weight, given, tags, max_lag)


def _max_lag(value: object, label: str, fail: Fail) -> float | None:
    if value is None or is_seconds(value):
        return value
    raise fail(f"{label}: max_lag={shown(value)}: a number of seconds above 0 is wanted, or None")


def is_seconds(value: object) -> TypeGuard[float]:
    """Return whether a value is a number of seconds above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


PASSWORD_NAMES = ("password", "passwd")
"""The driver's arguments that take a password, or a callable that returns one."""


def check_password(parameters: Mapping[str, object], label: str, fail: Fail) -> None:
    """Refuse a password that is neither text nor a callable that can be called with a node.

    Parameters:
        parameters: connection parameters.
        label: the beginning of the message.
        fail: turns a message into the exception to raise.
    """
    for name in PASSWORD_NAMES:
        value = parameters.get(name)
        if value is None or isinstance(value, (str, bytes)):
            continue
        if not callable(value):
            raise fail(f"{label}{name}: text is wanted, or a callable that returns it for a node")
        if is_coroutine_function(value):
            raise fail(
                f"{label}{name}: a coroutine function cannot be used, because the prober asks in a thread "
                "without an event loop; give a plain function, which the asyncio form runs in a thread"
            )
        keywords = {"refused": False} if takes_refused(value) else {}
        misfit = why_not_callable(value, "node", **keywords)
        if misfit:
            raise fail(
                f"{label}{name}: the callable is called with one argument, the node, and with the keyword "
                f"argument `refused` if it has one; that does not work here ({misfit})"
            )


def check_database(value: object, label: str, fail: Fail) -> None:
    """Refuse what cannot be the name of a database, such as a URL, which may contain a password.

    Parameters:
        value: what was given as ``database``; None for none yet.
        label: the beginning of the message; ``""`` for the primary's.
        fail: turns a message into the exception to raise.
    """
    if value is not None and not isinstance(value, (str, bytes)):
        raise fail(f"{label}database={shown(value)}: a database's name is wanted")
    if isinstance(value, str) and "://" in value:
        remedy = (
            "in replicas, a URL takes the place of the whole dict"
            if label
            else "playhouse.db_url.connect() takes URLs, such as "
            "mysql+replicas://user:password@host/name?replica=host"
        )
        raise fail(f"{label}database: a name is wanted, not a URL; {remedy}")


def check_place(parameters: Mapping[str, object], label: str, fail: Fail) -> None:
    """Refuse a host or port that no driver could connect to, and hint at what was meant.

    Parameters:
        parameters: connection parameters; a host or port of None leaves the choice to the driver.
        label: the beginning of the message.
        fail: turns a message into the exception to raise.
    """
    host, port = parameters.get("host"), parameters.get("port")
    if host is not None and not isinstance(host, str):
        raise fail(f"{label}host={shown(host)}: a host's name or address is wanted")
    hint = _why_no_host(host) if host else ""
    if hint:
        raise fail(f"{label}host: {hint}")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536):
        raise fail(f"{label}port={shown(port)}: a whole number from 1 to 65535 is wanted")


def _why_no_host(host: str) -> str:
    """Return advice if a text cannot be a host's name or address, else ``""``.

    The advice does not quote the text, which may contain a password.
    """
    if _HOST.fullmatch(host) or _is_ipv6(host):
        return ""
    if "://" in host:
        return (
            "a name or an address is wanted, not a URL; in replicas, a URL takes the place of the whole dict"
        )
    if "," in host:
        return (
            "one name or address is wanted, and this has a comma; each replica has an item of its own, "
            "in a URL a parameter of its own: replica=a&replica=b"
        )
    if host.startswith("/"):
        return "the path of a socket is given as unix_socket"
    if _HOST_AND_PORT.fullmatch(host):
        return "host and port are two parameters, {'host': 'name', 'port': 3306}; IPv6 has no brackets here"
    return "only a name or an address is wanted, without a user, a password, a path or spaces"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _parsed(
    text: str, label: str, parse_url: Callable[[str], dict[str, object]], fail: Fail
) -> dict[str, object]:
    if "://" not in text:
        return _host_and_port(text, label, fail)
    scheme = text.partition(":")[0].lower()
    if not scheme.startswith(("mysql", "mariadb")):
        raise fail(f"{label}: {shown(scheme)} is no scheme of MySQL or MariaDB; use mysql://host:port")
    found: dict[str, object] | None = None
    # With "#" or "@" in a password, the parser would read part of the password as the host and quote it.
    if "#" not in text and "@" not in _path(text):
        with contextlib.suppress(ValueError):
            found = parse_url(text)
    if found is None:
        # Quote neither the URL nor the parser's message: both may contain a password.
        raise fail(
            f"{label}: the URL cannot be read: its port is no number, or its user or password contains one "
            "of / ? # @ [ ]; give such a password in a dict"
        )
    host = found.get("host")
    hint = _why_no_host(host) if isinstance(host, str) and host else ""
    if hint:
        raise fail(f"{label}: {hint}")
    return found


def _path(url: str) -> str:
    """Return the path of a URL without parsing the parts that could be malformed."""
    return url.partition("://")[2].partition("?")[0].partition("/")[2]


def _host_and_port(text: str, label: str, fail: Fail) -> dict[str, object]:
    if _is_ipv6(text):
        return {"host": text}
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or not (match["name"] or _is_ipv6(match["ipv6"])):
        hint = _why_no_host(text) if "," in text else "'host', 'host:port' or a URL is wanted"
        raise fail(f"{label}: {hint}")
    found: dict[str, object] = {"host": match["name"] or match["ipv6"]}
    if match["port"]:
        found["port"] = int(match["port"])
    return found


def overlay(primary: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """Return a replica's connection parameters: its own, and the primary's for the rest.

    ``host`` and ``port`` exclude ``unix_socket``: a replica given by host must not inherit the primary's
    socket, which the driver would prefer.
    """
    merged = dict(primary)
    if "host" in overrides or "port" in overrides:
        merged.pop("unix_socket", None)
    if "unix_socket" in overrides:
        merged.pop("host", None)
        merged.pop("port", None)
    for alias, name in ALIASES.items():
        if name in overrides:
            merged.pop(alias, None)
    merged.update(overrides)
    return merged


def by_name(specs: Iterable[NodeSpec]) -> dict[str, NodeSpec]:
    """Return nodes by their names."""
    return {spec.name: spec for spec in specs}


def endpoint(parameters: Mapping[str, object]) -> str:
    """Return the endpoint that the parameters lead to, normalized so that equal endpoints compare equal."""
    if parameters.get("unix_socket"):
        return str(parameters["unix_socket"])
    host = str(parameters.get("host") or "localhost").lower().rstrip(".")
    return f"{'localhost' if host in _LOOPBACK else host}:{parameters.get('port') or 3306}"


def same_connection(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Return whether two sets of parameters have the same endpoint and the same other parameters."""
    where = ("host", "port", "unix_socket")
    rest = [{name: given[name] for name in given if name not in where} for given in (one, other)]
    return endpoint(one) == endpoint(other) and rest[0] == rest[1]


def host_and_port(where: str) -> tuple[str, int | None]:
    """Return the parts of a result of `address`: a host and its port, or a socket's path and None."""
    host, colon, port = where.rpartition(":")
    if colon and port.isdecimal() and not where.startswith(("/", "@")):
        return host, int(port)
    return where, None


def address(parameters: Mapping[str, object]) -> str:
    """Return the address that the parameters lead to, as the user wrote it."""
    if parameters.get("unix_socket"):
        return str(parameters["unix_socket"])
    return f"{parameters.get('host') or 'localhost'}:{parameters.get('port') or 3306}"
