"""All that differs from server to server; nothing here knows about routing."""
