"""Grafana dashboards as code, and the JSON that is generated from it."""
