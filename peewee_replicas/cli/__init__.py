"""The command ``pwreplicas``: where statements go, how the nodes are, and what is set up wrong."""
