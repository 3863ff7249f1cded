#!/bin/sh
# Expected: iter_lines of a Server-Sent Events answer ends lines at CR and LF, as that format and JSON lines do.
# Happens: httpx ends them at U+2028, U+0085 and their like too, so an event whose JSON has one in a text is cut in two.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check httpx==0.28.1
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys

import httpx

event = b"data: " + json.dumps({"text": "one\u2028two\u0085three"}, ensure_ascii=False).encode() + b"\n\n"
answer = httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=event)
lines = list(answer.iter_lines())
print("httpx", httpx.__version__, "sees", lines)
sys.exit(0 if lines == ['data: {"text": "one', "two", 'three"}', ""] else 1)
PYTHON
