"""Everything that differs between MySQL, MariaDB and SQLite. Nothing here knows about routing."""
