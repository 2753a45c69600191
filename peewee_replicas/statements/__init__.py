"""Classify statements by their text alone."""
