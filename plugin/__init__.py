"""Installs the data source, dashboards and alert rules into an existing Grafana."""
