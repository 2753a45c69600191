"""Commands; nothing in the library knows of them."""
