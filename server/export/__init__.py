"""Exports: a list question read to its end, in files that programs outside read."""
