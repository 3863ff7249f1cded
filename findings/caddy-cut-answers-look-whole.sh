#!/bin/sh
# Expected: an answer whose origin hangs up in the middle is cut for the client, too, as nginx and HAProxy do it.
# Happens: Caddy 2.6 (Debian 12) ends the chunked body in good order, so curl exits 0 with half of the file.
set -eu
caddy version
folder=$(mktemp -d)
trap 'kill $origin $proxy 2>/dev/null || true; rm -rf "$folder"' EXIT
origin='' proxy=''
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free)
cat >"$folder/origin.py" <<'PYTHON'
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf\n\r\n")
    connection.close()
PYTHON
python3 "$folder/origin.py" "$port" &
origin=$!
front=$(free)
printf '{\n\tadmin off\n}\nhttp://127.0.0.1:%s {\n\treverse_proxy 127.0.0.1:%s {\n\t\tflush_interval -1\n\t}\n}\n' \
    "$front" "$port" >"$folder/Caddyfile"
export HOME="$folder" XDG_DATA_HOME="$folder" XDG_CONFIG_HOME="$folder"
caddy run --adapter caddyfile --config "$folder/Caddyfile" >"$folder/log" 2>&1 &
proxy=$!
sleep 3
direct=0 passed=0
curl --silent --output "$folder/direct" "http://127.0.0.1:$port/" || direct=$?
curl --silent --output "$folder/passed" "http://127.0.0.1:$front/" || passed=$?
echo "from the origin: curl exits $direct; through Caddy: curl exits $passed with $(wc -c <"$folder/passed") bytes"
[ "$direct" -ne 0 ] && [ "$passed" -eq 0 ]
