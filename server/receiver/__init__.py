"""OTLP over HTTP: routes and their answers."""
