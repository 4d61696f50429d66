"""An ACME server that misbehaves. Runs in a container, with the standard library only.

Usage: impostor.py silent                 accepts connections and never answers
       impostor.py limited RETRY_AFTER    registers accounts, answers each order with 429 and this Retry-After
Reads /pki/leaf.pem and leaf.key; prints one line an order, with its payload.
"""

import base64
import json
import secrets
import socket
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = ("0.0.0.0", 14000)
BASE = "https://pebble:14000"
RETRY_AFTER = sys.argv[2] if len(sys.argv) > 2 else ""


class Limited(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(200, None)

    def do_GET(self) -> None:
        names = ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
        meta = {"profiles": {"shortlived": "six days"}}
        self.answer(200, {**{name: f"{BASE}/{name}" for name in names}, "meta": meta})

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        payload = base64.urlsafe_b64decode(sent["payload"] + "==").decode()
        if self.path == "/newAccount":
            self.answer(201, {"status": "valid"}, Location=f"{BASE}/account/1")
        else:
            print("Added order", json.dumps(json.loads(payload)), flush=True)
            problem = {
                "type": "urn:ietf:params:acme:error:rateLimited",
                "detail": "too many certificates",
                "status": 429,
            }
            self.answer(429, problem, **{"Retry-After": RETRY_AFTER})

    def answer(self, status: int, content: object, **headers: str) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/problem+json" if status >= 400 else "application/json"
        headers |= {"Content-Type": kind, "Content-Length": str(len(body)), "Replay-Nonce": secrets.token_hex(8)}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if sys.argv[1] == "silent":
    with socket.create_server(ADDRESS):
        print("ACME directory available", flush=True)
        time.sleep(86400)
else:
    server = ThreadingHTTPServer(ADDRESS, Limited)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/pki/leaf.pem", "/pki/leaf.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ACME directory available", flush=True)
    server.serve_forever()
