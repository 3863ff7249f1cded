"""Benchmarks: run by hand (make bench-NAME), never by the test suite."""
