"""advanced-alchemy's read/write routing over SQLAlchemy."""

from __future__ import annotations

from advanced_alchemy.config import SQLAlchemySyncConfig
from advanced_alchemy.config.routing import RoutingConfig

from .base import Program, Site
from .sqlalchemy_recipe import Alchemy

NAME = "SQLAlchemy, advanced-alchemy"
DOCUMENTATION = "advanced-alchemy.litestar.dev, usage: read/write routing"
FORM = "SQLAlchemySyncConfig(routing_config=RoutingConfig(...)) with its defaults, sticky_after_write=True"
PACKAGES = ("advanced-alchemy", "SQLAlchemy", "PyMySQL")


def plain(site: Site) -> Program:
    """The same configuration object with one address."""
    config = SQLAlchemySyncConfig(connection_string=site.url(site.replicas[0]))
    return Alchemy(config.create_session_maker(), config.get_engine().dispose)


def routed(site: Site) -> Program:
    """A primary and its replicas."""
    config = SQLAlchemySyncConfig(
        routing_config=RoutingConfig(
            primary_connection_string=site.url(site.primary),
            read_replicas=[site.url(replica) for replica in site.replicas],
        )
    )
    maker = config.create_session_maker()
    return Alchemy(maker, maker.close_all)  # type: ignore[attr-defined]  # its own types lack it
