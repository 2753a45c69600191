"""Scopes: the ``with`` blocks and decorators that change routing for one context."""
