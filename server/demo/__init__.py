"""Believable traffic of an invented web shop, sent through the OTLP receiver like anybody's."""
