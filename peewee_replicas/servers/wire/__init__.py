"""The protocol of MySQL and MariaDB: the only place that reads packets."""
