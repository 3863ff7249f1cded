#!/bin/sh
# Expected: a usage that says how many tokens were written to the cache for an hour is priced, as its parts are known.
# Happens: without the sum of all cache writes beside it the package raises ValueError; with the sum it has a price.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check genai-prices==0.2.3
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from genai_prices import Usage, calc_price

print("genai-prices", version("genai-prices"))


def price(**counts):
    usage = Usage(input_tokens=100_000, **counts)
    try:
        return calc_price(usage, "claude-sonnet-4-5", provider_id="anthropic").total_price
    except ValueError as error:
        return f"ValueError: {error}"


alone = price(cache_write_1h_tokens=100_000)
with_sum = price(cache_write_1h_tokens=100_000, cache_write_tokens=100_000)
print("an hour's writes alone:", alone)
print("with their sum:", with_sum, "US dollars")
sys.exit(0 if str(alone).startswith("ValueError") and str(with_sum).startswith("0.6") else 1)
PYTHON
