"""A network as data, and which one a file holds."""
