#!/bin/sh
# Expected: the text of a parsed PromQL expression (str) parses again to the same expression, as that of prettify() does.
# Happens: str() writes the subquery up[5m:] as the range up[5m], another expression, and leaves quotes in labels unescaped.
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
subquery = promql_parser.parse("max_over_time(up[5m:])")
quoted = promql_parser.parse('up{path="say \\"hi\\""}')
print("subquery: str", str(subquery), "- prettify", subquery.prettify())
print("quoted:   str", str(quoted), "- prettify", quoted.prettify())
again = type(promql_parser.parse(str(subquery)).args[0]).__name__
print("the subquery's text is read as", again)
try:
    promql_parser.parse(str(quoted))
    reads = True
except ValueError as error:
    reads = False
    print("the quoted label's text is refused:", error)
sys.exit(0 if again == "MatrixSelector" and not reads and "[5m:]" in subquery.prettify() else 1)
PYTHON
