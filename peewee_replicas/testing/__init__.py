"""Helps to test programs that read from replicas, with real servers on this machine or one in all roles."""

from peewee_replicas.testing.cluster import LocalCluster
from peewee_replicas.testing.counts import Counts
from peewee_replicas.testing.faults import raise_on_next
from peewee_replicas.testing.installations import MissingServer, available
from peewee_replicas.testing.node import ClusterNode
from peewee_replicas.testing.one_server import one_server
from peewee_replicas.testing.routes import assert_no_replica_reads, assert_routes

__all__ = [
    "ClusterNode",
    "Counts",
    "LocalCluster",
    "MissingServer",
    "assert_no_replica_reads",
    "assert_routes",
    "available",
    "one_server",
    "raise_on_next",
]
