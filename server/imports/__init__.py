"""Readers of other tools' exports: from their rows to OTLP spans and scores, by a table of paths for each tool."""
