"""The Grafana surface: JSON data source, Jaeger and Tempo protocols over the query core."""
