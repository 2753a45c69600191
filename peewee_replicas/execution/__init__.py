"""Sending one statement to the node that was decided on, and what happens when that fails."""
