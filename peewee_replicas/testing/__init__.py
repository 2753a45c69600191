"""Helps to test programs that read from replicas, with real servers on this machine or one in all roles."""

from peewee_replicas.testing.cluster import LocalCluster
from peewee_replicas.testing.counts import Counts
from peewee_replicas.testing.installations import MissingServer, available
from peewee_replicas.testing.node import ClusterNode
from peewee_replicas.testing.one_server import one_server

__all__ = ["ClusterNode", "Counts", "LocalCluster", "MissingServer", "available", "one_server"]
