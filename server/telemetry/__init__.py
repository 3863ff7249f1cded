"""The program's own telemetry: observations, metrics, logs and spans."""
