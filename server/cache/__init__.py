"""Cached answers, and the tokens by which each process learns that they are stale."""
