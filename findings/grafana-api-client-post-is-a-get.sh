#!/bin/sh
# Expected: client.annotations.post(text="x") posts, as the docstring of the client shows it.
# Happens: "post" becomes a part of the path and a GET is sent, without an error; posting is .create(text="x").
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grafana-api-client==0.2.0 requests==2.32.5 six==1.17.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from grafana_api_client import GrafanaClient

seen = []


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen.append(f"{self.command} {self.path.split('?')[0]}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("grafana-api-client", version("grafana-api-client"))
client = GrafanaClient("a-token", host="127.0.0.1", port=server.server_address[1])
client.annotations.post(text="x")
client.annotations.create(text="x")
server.shutdown()
print("\n".join(seen))
sys.exit(0 if seen == ["GET /api/annotations/post", "POST /api/annotations"] else 1)
PYTHON
