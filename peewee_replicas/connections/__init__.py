"""Opening, finding and dropping the connections to each node."""
