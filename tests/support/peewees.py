"""Which tests need which release of peewee: what they are about is not in older ones.

A test says so itself, with `needs_peewee` or `needs_asyncio`. What needs the asyncio form is found: a test of
that form, one with `AsyncReplicatedDatabase` among its parameters, and a module that cannot be imported
without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import peewee
import pytest

try:
    from peewee_replicas.aio import AsyncReplicatedDatabase
except ImportError as error:
    WITHOUT_ASYNCIO = str(error)

    class AsyncReplicatedDatabase:  # type: ignore[no-redef]
        """Stands for the class among the parameters of tests, which are skipped."""
else:
    WITHOUT_ASYNCIO = ""
"""Why there is no asyncio form; `""` if there is."""

_RELEASE = tuple(int(part) for part in peewee.__version__.split(".")[:2])


def has_peewee(since: str) -> bool:
    """Whether the installed peewee is that release or a later one."""
    return tuple(int(part) for part in since.split(".")) <= _RELEASE


def needs_peewee(since: str, what: str) -> pytest.MarkDecorator:
    """Skip a test of something that peewee has only since a release."""
    return pytest.mark.skipif(not has_peewee(since), reason=f"{what} needs peewee {since}")


def some_need(names: Iterable[str], needs: Mapping[str, str]) -> list[Any]:
    """Return parameters of which some need a release of peewee: `needs` has it by name."""
    return [
        pytest.param(name, marks=needs_peewee(needs[name], name)) if name in needs else name for name in names
    ]


AS_NEWEST_CONNECTS: dict[str, Any] = {"charset": "utf8mb4", "sql_mode": None}
"""Before 4.5, peewee sets charset utf8 and a `sql_mode` that is not strict; with these, it does as since."""

needs_asyncio = pytest.mark.skipif(bool(WITHOUT_ASYNCIO), reason=WITHOUT_ASYNCIO)


def skip_asyncio(items: list[pytest.Item]) -> None:
    """Skip the tests of the asyncio form if there is none."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        params: dict[str, Any] = {} if callspec is None else callspec.params
        if params.get("form") == "asyncio" or AsyncReplicatedDatabase in params.values():
            item.add_marker(needs_asyncio)


class _Module(pytest.Module):
    """A test module that is skipped if the asyncio form is all that it lacks."""

    def _getobj(self) -> Any:
        try:
            return super()._getobj()
        except self.CollectError as exc:
            cause = str(exc.__cause__)
            if WITHOUT_ASYNCIO and (cause == WITHOUT_ASYNCIO or "pwasyncio" in cause):
                pytest.skip(WITHOUT_ASYNCIO, allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Make the collector of a test module."""
    module: pytest.Module = _Module.from_parent(parent, path=module_path)
    return module
