"""Which spans of a trace count, so that each call counts once: pure functions of all its spans."""
