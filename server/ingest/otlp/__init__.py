"""OTLP payloads: from bytes in either encoding to decoded spans and log records."""
