"""All characters that a text can have, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=["Cs"])
"""Those of UTF-8, which has no surrogates; as by default, but without trying each of them for a second."""
