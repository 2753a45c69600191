"""The routing arguments of the database classes, checked when they are given. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

from ..nodes.spec import Fail
from ..statements.classifier import Classifier
from .policies import POLICIES, Policy

OWN_ARGUMENTS = (
    "replicas",
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
)

_CHOICES = {
    "reads": ("replica", "primary", "observe"),
    "fallback": ("primary", "error"),
    "spread": ("statement", "unit"),
    "readonly_in_transaction": ("error", "join"),
    "consistency": ("session", "eventual", "process", "strong"),
    "on_transaction_escape": ("ignore", "warn", "error"),
}
_SECONDS = {"catch_up_timeout": 0.5, "sticky_seconds": 2.0}
_SECONDS_OR_NONE = {"max_lag": 10.0, "probe_interval": 1.0}
_TABLE = re.compile(r"(?:[\w$]+\.)?[\w$]+")


class Settings(NamedTuple):
    """The routing arguments of one database, checked."""

    policy: Policy
    reads: str
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


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _functions(value: object, fail: Fail) -> tuple[str, ...]:
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


def _policy(value: object, fail: Fail) -> Policy:
    if isinstance(value, str) and value in POLICIES:
        return POLICIES[value]()
    if isinstance(value, type):
        value = value()
    if hasattr(value, "fresh"):
        # One policy object given to two databases must not become state that they share.
        fresh: Policy = value.fresh()
        return fresh
    if callable(value):
        return value
    raise fail(
        f"policy={value!r}: allowed are {', '.join(map(repr, POLICIES))}, "
        "or a callable that returns one of the replicas it is given"
    )
