"""Optional: middleware that carries bookmarks between a visitor's requests, and sessions for jobs."""
