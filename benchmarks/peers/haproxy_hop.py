"""Plain peewee with HAProxy in front of every node: the least that any proxy costs."""

from __future__ import annotations

from playhouse.pool import PooledMySQLDatabase

from .base import Program, Site
from .ours import plain
from .two_databases import Switching

NAME = "peewee through HAProxy (TCP)"
DOCUMENTATION = "docs.haproxy.org/2.6/configuration.html: mode tcp, balance, option mysql-check"
FORM = "as with two databases, but the replica is one address: HAProxy balances over all of them"
PACKAGES = ("peewee", "PyMySQL")

__all__ = ["plain", "routed"]


def routed(site: Site) -> Program:
    """Both addresses are HAProxy's."""
    if site.writers is None or site.readers is None:
        raise RuntimeError("HAProxy is not there")
    writers, readers = (
        PooledMySQLDatabase(**site.parameters(address)) for address in (site.writers, site.readers)
    )
    return Switching(writers, [readers])
