"""Questions to the store. Knows SQL and rows, never HTTP."""
