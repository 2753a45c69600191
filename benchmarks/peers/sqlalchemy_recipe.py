"""SQLAlchemy's documented way: a session whose `get_bind()` sends flushes to one engine, reads to others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sqlalchemy import Delete, Insert, String, Update, create_engine, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from .base import Answer, Program, Site

NAME = "SQLAlchemy, routing session"
DOCUMENTATION = "docs.sqlalchemy.org/en/20/orm/persistence_techniques.html, custom vertical partitioning"
FORM = "get_bind(): flushes, INSERT, UPDATE, DELETE to the primary, all else to a replica taken by chance"
PACKAGES = ("SQLAlchemy", "PyMySQL")


class Base(DeclarativeBase):
    """Of the models."""


class Row(Base):
    """What is read and written."""

    __tablename__ = "bench_row"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    node: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))


class Alchemy(Program):
    """A session per request, and per read that is compared: a session would remember what it has read."""

    def __init__(self, session: Callable[[], Session], dispose: Callable[[], Any]) -> None:
        self.session = session
        self.dispose = dispose

    def read(self, key: int) -> Answer:
        return self.visit_read(key)

    def visit_read(self, key: int) -> Answer:
        with self.session() as session:
            row = session.get_one(Row, key)
            return Answer(row.n, row.node)

    def visit_write(self, key: int, n: int) -> None:
        with self.session() as session:
            session.execute(update(Row).where(Row.id == key).values(n=n))
            session.commit()

    def close(self) -> None:
        self.dispose()


def plain(site: Site) -> Program:
    """One engine, at one replica."""
    engine = create_engine(site.url(site.replicas[0]))
    return Alchemy(sessionmaker(engine), engine.dispose)


def routed(site: Site) -> Program:
    """An engine per node."""
    primary, *replicas = (create_engine(site.url(address)) for address in (site.primary, *site.replicas))

    class RoutingSession(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None, **kwargs: Any) -> Any:
            if self._flushing or isinstance(clause, (Insert, Update, Delete)):
                return primary
            return random.choice(replicas)

    def dispose() -> None:
        for engine in (primary, *replicas):
            engine.dispose()

    return Alchemy(sessionmaker(class_=RoutingSession), dispose)
