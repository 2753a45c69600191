"""Check the routing arguments of the database classes. Makes decisions only: no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeGuard, cast, get_args

from ..nodes.spec import Fail, did_you_mean, is_seconds
from ..statements.classifier import Classifier
from ..statements.redaction import shown
from .nearest import as_policy
from .policies import Policy

OWN_ARGUMENTS = (
    "replicas",
    "refresh",
    "policy",
    "reads",
    "fallback",
    "spread",
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
    "follow_primary",
    "max_connection_age",
)

# The first value of each is the default.
ReadsWord = Literal["replica", "primary", "observe"]
Reads = ReadsWord | float
"""Where plain reads go: a word, or the share of them that replicas serve, from 0 to 1."""
Writes = Literal["allow", "refuse"]
Fallback = Literal["primary", "error"]
Spread = Literal["statement", "unit"]
ReadonlyInTransaction = Literal["error", "join"]
Level = Literal["session", "eventual", "process", "strong"]
OnTransactionEscape = Literal["ignore", "warn", "error"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "reads": get_args(ReadsWord),
    "writes": get_args(Writes),
    "fallback": get_args(Fallback),
    "spread": get_args(Spread),
    "readonly_in_transaction": get_args(ReadonlyInTransaction),
    "consistency": get_args(Level),
    "on_transaction_escape": get_args(OnTransactionEscape),
}
_SECONDS = {"catch_up_timeout": 0.5, "sticky_seconds": 2.0}
_SECONDS_OR_NONE = {"max_lag": 10.0, "probe_interval": 1.0, "max_connection_age": None}
_TABLE = re.compile(r"(?:[\w$]+\.)?[\w$]+")


_OF_ARGUMENTS = tuple(name for name in _CHOICES if name not in ("reads", "writes"))


class Settings(NamedTuple):
    """The routing arguments of one database, checked."""

    policy: Policy
    reads: Reads
    fallback: str
    spread: str
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
    follow_primary: bool
    max_connection_age: float | None
    refresh: float = 30.0


def checked(arguments: Mapping[str, Any], fail: Fail) -> Settings:
    """Check the routing arguments, apart from ``replicas``."""
    chosen: dict[str, Any] = {}
    for name in _OF_ARGUMENTS:
        chosen[name] = check_choice(name, arguments.get(name, _CHOICES[name][0]), fail)
    seconds: dict[str, Any] = {}
    for name, default in _SECONDS.items():
        value = seconds[name] = arguments.get(name, default)
        if not _is_number(value) or not 0 <= value < float("inf"):
            raise fail(f"{name}={shown(value)}: a number of seconds is wanted, 0 or more")
    for name, usual in _SECONDS_OR_NONE.items():
        seconds[name] = check_seconds_or_none(name, arguments.get(name, usual), fail)
    refresh = arguments.get("refresh", 30.0)
    if not is_seconds(refresh):
        raise fail(f"refresh={shown(refresh)}: a number of seconds above 0 is wanted")
    share = arguments.get("max_fallback_share")
    if share is not None and (not _is_number(share) or not 0 <= share <= 1):
        raise fail(f"max_fallback_share={shown(share)}: a share from 0 to 1 is wanted, or None")
    table = arguments.get("heartbeat_table")
    if table is not None and (not isinstance(table, str) or not _TABLE.fullmatch(table)):
        raise fail(f"heartbeat_table={shown(table)}: 'table' or 'schema.table' is wanted, or None")
    follows = arguments.get("follow_primary", False)
    if not isinstance(follows, bool):
        raise fail(f"follow_primary={shown(follows)}: True or False is wanted")
    if follows and seconds["probe_interval"] is None:
        raise fail("follow_primary=True needs the prober, which probe_interval=None turns off")
    return Settings(
        **seconds,
        refresh=refresh,
        follow_primary=follows,
        max_fallback_share=share,
        heartbeat_table=table,
        reads=check_reads(arguments.get("reads", "replica"), fail),
        policy=as_policy("policy", arguments.get("policy", "round-robin"), fail),
        pure_functions=_functions(arguments.get("pure_functions", ()), fail),
        **chosen,
    )


def check_reads(value: object, fail: Fail, name: str = "reads") -> Reads:
    """Return where plain reads go; `fail` if the value is neither a known word nor a share.

    Parameters:
        name: what the message calls the value.
    """
    if _is_number(value) and 0 <= value <= 1:
        return value
    return cast(ReadsWord, _word(name, value, _CHOICES["reads"], ", or a share from 0 to 1", fail))


def check_writes(value: object, fail: Fail) -> Writes:
    """Return whether writes are allowed; `fail` if the value is no known word."""
    return cast(Writes, check_choice("writes", value, fail))


def check_choice(name: str, value: object, fail: Fail) -> str:
    """Return the value of an argument that takes one of a few words; `fail` if it is none of them."""
    return _word(name, value, _CHOICES[name], "", fail)


def _word(name: str, value: object, allowed: tuple[str, ...], or_else: str, fail: Fail) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
    raise fail(f"{name}={shown(value)}: allowed are {', '.join(map(repr, allowed))}{or_else}{hint}")


def check_seconds_or_none(name: str, value: object, fail: Fail) -> float | None:
    """Return a number of seconds above 0, or None; `fail` if the value is neither."""
    if value is None or is_seconds(value):
        return value
    raise fail(f"{name}={shown(value)}: a number of seconds above 0 is wanted, or None")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _functions(value: object, fail: Fail) -> tuple[str, ...]:
    if isinstance(value, str):
        # A URL gives the names as one text, separated by commas.
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, Iterable):
        raise fail(f"pure_functions={shown(value)}: a list of names of stored functions is wanted")
    names = tuple(value)
    try:
        Classifier(None, names)
    except ValueError as exc:
        raise fail(str(exc)) from None
    return names
