"""Rollups: the stored forms, and the folding and rebuilding of them."""
