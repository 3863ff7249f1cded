"""How much each caller may ask: token buckets in Redis, with a local stand-in."""
