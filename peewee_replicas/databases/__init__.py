"""The classes that a program swaps in: peewee's members, handed on to the rooms that do the work."""
