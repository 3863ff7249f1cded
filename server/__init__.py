"""LLM Observatory: an OTLP receiver, a trace store and a query API for LLM applications."""

__version__ = "0.1.0"
