#!/bin/sh
# Expected: a price context that the list does not know, such as service_tier=batch, is refused or at least said to be unknown.
# Happens: it is ignored without a word, and the call is quoted at the full price; only processing=batch is the batch price.
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
contexts = [None, {"processing": "batch"}, {"service_tier": "batch"}, {"service_tiers": "flex"}, {"service_tier": "flex"}]
usage = Usage(input_tokens=1_000_000)
seen = []
for context in contexts:
    price = calc_price(usage, "gpt-5", provider_id="openai", price_context=context).total_price
    seen.append(price)
    print(context, "->", price, "US dollars")
full, batch, wrong_key, misspelt, flex = seen
sys.exit(0 if wrong_key == misspelt == full > batch == flex else 1)
PYTHON
