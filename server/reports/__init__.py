"""Reports for people who pay and decide: thin callers of the metric engine. Knows no HTTP."""
