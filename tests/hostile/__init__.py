"""A hostile tenant against a server of its own: ``make hostile``."""
