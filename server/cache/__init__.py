"""Cached answers, and how each process learns that they are stale."""
