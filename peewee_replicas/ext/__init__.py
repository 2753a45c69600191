"""Optional companions: middleware that carries bookmarks between the requests of one visitor."""
