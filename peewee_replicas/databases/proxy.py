"""A `DatabaseProxy` whose scopes and `on_primary` can be used before `initialize()`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from peewee import DatabaseProxy

from ..errors import ConfigurationError
from ..nodes.selector import selector_from
from ..routing.settings import Level, Reads, Writes
from ..scopes.scope import Scope
from .replicated import NO_TAGS_GIVEN, Replicated
from .routed_members import members_of
from .scope_entry import ScopeEntry, check_read_only, check_readonly

_SWITCHES = ("reads", "writes")

if TYPE_CHECKING:
    from .argument_types import TagsArgument


class ReplicatedDatabaseProxy(DatabaseProxy):
    """A `DatabaseProxy` for a replicated database.

    ``@proxy.readonly()``, ``@proxy.primary()`` and ``class Meta: database = proxy.on_primary`` work at import
    time; the database is looked up when they are used, after `initialize`.
    """

    # peewee's proxies accept only the attributes listed here.
    __slots__ = (*DatabaseProxy.__slots__, "_place_proxies")

    if TYPE_CHECKING:
        reads: Reads
        writes: Writes

    def __init__(self) -> None:
        super().__init__()
        self._place_proxies: dict[Hashable, DatabaseProxy] = {}

    def __setattr__(self, name: str, value: object) -> None:
        # peewee's proxies refuse every attribute of the database.
        if name in _SWITCHES:
            setattr(self._database(), name, value)
        else:
            super().__setattr__(name, value)

    def initialize(self, obj: object) -> None:
        """Give the proxy its database.

        Raises:
            ConfigurationError: `obj` is not one of this package's databases.
        """
        if obj is not None and not isinstance(obj, Replicated):
            raise ConfigurationError(
                "ReplicatedDatabaseProxy needs one of peewee_replicas' databases, "
                f"not a {type(obj).__name__}; peewee's own DatabaseProxy takes any"
            )
        super().initialize(obj)

    def readonly(
        self,
        *,
        consistency: Level | None = None,
        max_lag: float | None = None,
        snapshot: bool = False,
        tags: TagsArgument | None = None,
        node: str | None = None,
    ) -> Scope[ReplicatedDatabaseProxy]:
        """Like `ReplicatedDatabase.readonly`; the database is looked up when the scope is entered."""
        check_readonly(consistency, max_lag, snapshot)
        selector = selector_from(tags, node, ConfigurationError)
        return Scope(self, lambda: self._scopes().enter_readonly(consistency, snapshot, max_lag, selector))

    def primary(self) -> Scope[ReplicatedDatabaseProxy]:
        """Like `ReplicatedDatabase.primary`; the database is looked up when the scope is entered."""
        return Scope(self, lambda: self._scopes().enter_primary())

    def causal_session(self, bookmark: str | None = None) -> Scope[ReplicatedDatabaseProxy]:
        """Like `ReplicatedDatabase.causal_session`; the database is looked up when the scope is entered."""
        return Scope(self, lambda: self._scopes().enter_causal(bookmark))

    # peewee's proxy methods support only `with`; the asyncio database has `async with` too.

    def atomic(self, *args: object, read_only: object = False, **kwargs: object) -> Any:
        """Like `ReplicatedDatabase.atomic`; the database is looked up when the block is entered."""
        if read_only is not False:
            check_read_only(read_only, args, kwargs)
            return self.readonly(snapshot=True)
        return super().atomic(*args, **kwargs) if self.obj is None else self.obj.atomic(*args, **kwargs)

    def transaction(self, *args: object, **kwargs: object) -> Any:
        """Like peewee's method."""
        return (
            super().transaction(*args, **kwargs)
            if self.obj is None
            else self.obj.transaction(*args, **kwargs)
        )

    def savepoint(self) -> Any:
        """Like peewee's method."""
        return super().savepoint() if self.obj is None else self.obj.savepoint()

    @property
    def on_primary(self) -> DatabaseProxy:
        """A proxy for the database's own `on_primary`."""
        return self._place("on_primary", lambda obj: obj.on_primary)

    def on_replicas(self, **tags: str) -> DatabaseProxy:
        """A proxy for the database's own `on_replicas`; raises `ConfigurationError` as that does."""
        selector = selector_from(tags or None, None, ConfigurationError)
        if not selector:
            raise ConfigurationError(NO_TAGS_GIVEN)
        return self._place(selector, lambda obj: obj.on_replicas(**tags))

    def _place(self, key: Hashable, place: Callable[[Replicated], Replicated]) -> DatabaseProxy:
        twin = self._place_proxies.get(key)
        if twin is None:
            self._place_proxies[key] = made = twin = DatabaseProxy()
            if self.obj is not None:
                made.initialize(place(self.obj))
            self.attach_callback(lambda obj: made.initialize(obj and place(obj)))
        return twin

    def _scopes(self) -> ScopeEntry:
        return members_of(self._database()).scopes

    def _database(self) -> object:
        if self.obj is None:
            raise AttributeError("Cannot use uninitialized Proxy.")
        return self.obj
