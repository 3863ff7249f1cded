"""Prometheus' HTTP API over the metric engine, for Grafana's built-in Prometheus data source and its alerting."""
