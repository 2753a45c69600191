"""Optional: middleware that carries bookmarks between requests, health endpoints, and sessions for jobs."""
