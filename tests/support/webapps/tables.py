"""The table of the programs under test."""

from __future__ import annotations

from peewee import CharField, IntegerField, Model


class Slot(Model):
    """A row that several requests read and write."""

    name = CharField(unique=True)
    n = IntegerField(default=0)
