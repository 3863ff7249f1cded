"""Limits on the requests of each caller: token buckets in Redis, with a local substitute."""
