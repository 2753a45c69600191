"""The library at work on real servers of this machine, held to what it promises; ``scripts/demo`` runs it."""
