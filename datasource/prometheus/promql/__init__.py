"""PromQL over numpy arrays: parse, plan what to read, evaluate. Knows no HTTP and no database."""
