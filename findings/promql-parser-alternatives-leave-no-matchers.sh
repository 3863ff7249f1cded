#!/bin/sh
# Expected: {job="a" or job="b"} is refused, as Prometheus refuses it, or its matchers are where those of every selector are.
# Happens: it is taken, and .matchers is empty: who enforces a tenant by looking through the matchers sees a selector of all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check promql-parser==0.12.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import promql_parser

print("promql-parser", version("promql-parser"))
plain = promql_parser.parse('up{job="a"}').matchers
either = promql_parser.parse('up{job="a" or job="b"}').matchers
print("plain: ", plain.matchers, plain.or_matchers)
print("either:", either.matchers, either.or_matchers)
sys.exit(0 if len(plain.matchers) == 1 and either.matchers == [] and len(either.or_matchers) == 2 else 1)
PYTHON
