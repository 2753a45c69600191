"""Who can serve: the nodes, their health, and the prober that looks after them."""
