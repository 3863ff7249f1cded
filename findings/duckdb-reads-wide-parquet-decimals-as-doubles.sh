#!/bin/sh
# Expected: a Parquet column of decimal256(40, 10) is read as a decimal of that precision, or refused as polars refuses it.
# Happens: DuckDB makes a DOUBLE of it without a word, so sums of money lose digits; decimal128(20, 10) stays exact.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

print("duckdb", duckdb.__version__, "pyarrow", pa.__version__)
amounts = [Decimal("0.1000000003"), Decimal("123456789.0000000001")]
columns = {"narrow": pa.decimal128(20, 10), "wide": pa.decimal256(40, 10)}
table = pa.table({name: pa.array(amounts, type=kind) for name, kind in columns.items()})
pq.write_table(table, "money.parquet")
seen = {}
for name in columns:
    ((kind, total),) = duckdb.sql(f"SELECT min(typeof({name})), sum({name}) FROM 'money.parquet'").fetchall()
    seen[name] = (kind, total == sum(amounts))
    print(name, "is read as", kind, "and sums to", total)
sys.exit(0 if seen == {"narrow": ("DECIMAL(20,10)", True), "wide": ("DOUBLE", False)} else 1)
PYTHON
