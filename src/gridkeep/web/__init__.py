"""How pages look: templates, style, scripts, and what a page shows of the catalog. Knows nothing of HTTP or of who asks."""
