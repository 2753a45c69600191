"""Measurements on real servers, side by side with what people would use instead; see README.md here."""
