#!/bin/sh
# Expected: a Parquet writer of pyarrow holds one row group in memory, so that a file may have any number of them.
# Happens: it keeps a description of every row group until close: 57 kB a group of 69 columns, not in Arrow's own count.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1
"$folder/venv/bin/python" - <<'EOF'
import pyarrow as pa
import pyarrow.parquet as pq


def resident():
    """Kilobytes of this process in memory."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


class Nowhere:
    closed = False

    def write(self, data):
        return len(data)

    def flush(self):
        pass

    def close(self):
        self.closed = True


table = pa.table({f"column {number}": [number] for number in range(69)})
writer = pq.ParquetWriter(Nowhere(), table.schema, compression="none")
figures = []
for group in range(2001):
    writer.write_table(table)
    if group in (200, 1100, 2000):
        figures.append((group, resident(), pa.total_allocated_bytes()))
print("pyarrow", pa.__version__)
for group, kilobytes, arrow in figures:
    print(f"after {group:4} row groups of one row: {kilobytes // 1024} MB in memory, {arrow} bytes by Arrow's own count")
first, second = (figures[n + 1][1] - figures[n][1] for n in range(2))
print(f"900 row groups: {first // 900} and {second // 900} kB each")
raise SystemExit(0 if min(first, second) // 900 >= 5 else 1)
EOF
