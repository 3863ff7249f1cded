"""Questions asked of the store. Knows SQL and rows, never HTTP."""
