"""Every way to change data, and every way to fail at it, with the read that follows.

A case is a function of the database and its cluster. It begins with one row ("a", 1) on all nodes, does its
work, and gives the read and what that has to answer.
"""

from . import rows, statements, transactions  # noqa: F401  # each enters its cases in the table
from .table import CASES, OPTIONS

__all__ = ["CASES", "OPTIONS"]
