"""Puts the queries of the published PromQL compliance suite to a real Prometheus and to our evaluator.

    python -m tests.datasource.prometheus.compliance [--queries promql-test-queries.yml]

A private Prometheus (Debian's package ``prometheus``, with promtool) gets two hours of made-up samples as blocks; the
evaluator gets the same samples in memory. Both answer each query over a range. Prometheus 2's windows include their
left border and Prometheus 3's do not, so steps lie between the samples. Without the binaries nothing is run, and said.

The queries are in the words of the suite's templates (https://github.com/prometheus/compliance, Apache-2.0); a file of
the suite itself may be given instead.
"""
