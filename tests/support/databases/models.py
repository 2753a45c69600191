"""Two tables that most tests on servers use."""

from __future__ import annotations

from peewee import CharField, ForeignKeyField, IntegerField, Model, TextField


class Item(Model):
    """A table for tests; bind it to the database under test."""

    name = CharField()
    n = IntegerField(default=0)


class Note(Model):
    """A second table, with a reference to the first."""

    item = ForeignKeyField(Item, backref="notes")
    text = TextField()
