"""Send one statement to the chosen node, and handle its failures."""
