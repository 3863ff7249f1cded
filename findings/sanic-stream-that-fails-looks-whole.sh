#!/bin/sh
# Expected: a client can tell from the answer that a handler raised in the middle of a stream, since the last chunk is missing.
# Happens: Sanic ends the chunked body in good order, so curl exits 0 with half of the file; only cutting the transport shows.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sanic==25.12.1
cat >"$folder/streams.py" <<'PYTHON'
from sanic import Sanic

app = Sanic("streams")


async def half(request):
    response = await request.respond(content_type="text/csv")
    await response.send("id,cost\n1,0.5\n")
    return response


@app.get("/raises")
async def raises(request):
    await half(request)
    raise RuntimeError("the database went away")


@app.get("/cuts")
async def cuts(request):
    await half(request)
    request.transport.abort()
PYTHON
cd "$folder"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/sanic" streams:app --host 127.0.0.1 --port "$port" --single-process --no-motd >"$folder/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$folder"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    curl --silent --output /dev/null "http://127.0.0.1:$port/" && break
    sleep 1
done
"$folder/venv/bin/python" -c 'import sanic; print("sanic", sanic.__version__)'
raised=0
curl --silent --output "$folder/raised" "http://127.0.0.1:$port/raises" || raised=$?
cut=0
curl --silent --output "$folder/cut" "http://127.0.0.1:$port/cuts" || cut=$?
echo "handler raises: curl exits $raised with $(wc -c <"$folder/raised") bytes; transport is cut: curl exits $cut"
[ "$raised" -eq 0 ] && [ "$cut" -ne 0 ]
