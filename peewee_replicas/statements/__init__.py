"""What a statement is, from its text alone."""
