"""How often a principal may ask: token buckets and their policy."""
