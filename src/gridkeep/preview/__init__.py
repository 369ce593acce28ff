"""What can be shown of a file, from its first bytes alone. Knows nothing of artifacts, stores, HTTP, or how it is shown."""
