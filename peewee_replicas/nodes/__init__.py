"""The nodes, their health, and the prober that checks them."""
