#!/bin/sh
# Expected: pyarrow makes an array of Python strings, to write it as Parquet, without pandas, which nobody named.
# Happens: where pandas is installed, the first array imports it: some 400 modules and 50 MB more in the process.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import resource
import sys

import pyarrow as pa
import pyarrow.parquet


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


print("pyarrow", pa.__version__)
before, modules, had_pandas = megabytes(), len(sys.modules), "pandas" in sys.modules
pa.array(["a", "b"], type=pa.string())
has_pandas = "pandas" in sys.modules
print("pandas before:", had_pandas, "after:", has_pandas)
print("modules more:", len(sys.modules) - modules, "megabytes more:", round(megabytes() - before))
sys.exit(0 if not had_pandas and has_pandas else 1)
PYTHON
