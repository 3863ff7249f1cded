"""From a decoded span to a row: pure functions, one per concern."""
