"""From mapped spans to committed rows, and every later change of stored spans."""
