"""Decides what a read must see, and whether a node shows it yet."""
