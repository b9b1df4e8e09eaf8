"""What runs inside the container: clients that keep a book, a sink, and a probe after a kill.

    inside.py load STOP_FILE      send until the file is there; print what came of it
    inside.py check IDS_FILE      print how many of the calls are missing or not completed
    inside.py kill                kill the daemon; print the seconds until it answers again
    inside.py sink PORT           answer every request after half a second, and print its headers

Needs nothing but Python's own library. Each prints one JSON object.
"""

import http.client
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

SOCKET = "/run/integrationd/integrationd.sock"
API_KEY = Path("/var/lib/integrationd/api.key")
PORT = 8700
CLIENTS = 6
PAUSE_S = 0.02
TIMEOUT_S = 60.0
SINK_S = 0.5


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket."""

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def ask(
    over: str, method: str, path: str, body: object = None, key: str = ""
) -> tuple[int, dict[str, Any]]:
    """Send one request on a connection of its own and return the status and the JSON."""
    headers = {"Connection": "close"}
    if key:
        headers["Idempotency-Key"] = key
    if over == "tcp":
        headers["Authorization"] = f"Bearer {API_KEY.read_text().strip()}"
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT_S)
    else:
        connection = UnixConnection("localhost", timeout=TIMEOUT_S)
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Client(threading.Thread):
    """Sends one call after the other, each until it is acknowledged."""

    def __init__(self, over: str, stop: Path) -> None:
        super().__init__()
        self.over, self.stop = over, stop
        self.ids: list[str] = []
        self.refused = self.broken = self.other = 0
        self.longest_s = 0.0

    def run(self) -> None:
        """Send until the file is there."""
        while not self.stop.exists():
            self.send(uuid.uuid4().hex)
            time.sleep(PAUSE_S)

    def send(self, key: str) -> None:
        """Send one call, again with its key while nobody has acknowledged it."""
        body = {"to": "+254711000111", "message": key}
        began = time.monotonic()
        while True:
            try:
                status, answer = ask(self.over, "POST", "/v1/sms/send", body, key)
            except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
                self.refused += 1
            except (OSError, http.client.HTTPException):
                self.broken += 1
            else:
                if status in (200, 202):
                    self.ids.append(answer["id"])
                    break
                self.other += 1
            time.sleep(PAUSE_S)
        self.longest_s = max(self.longest_s, time.monotonic() - began)


def load(stop: Path) -> dict[str, Any]:
    """Have clients send over both sockets until the file is there."""
    clients = [Client("unix" if at % 2 else "tcp", stop) for at in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    ids = [one for each in clients for one in each.ids]
    stop.with_suffix(".ids").write_text("\n".join(ids))
    return {
        "acknowledged": len(ids),
        "refused": sum(each.refused for each in clients),
        "broken": sum(each.broken for each in clients),
        "other": sum(each.other for each in clients),
        "longest_s": max(each.longest_s for each in clients),
    }


def check(ids: Path) -> dict[str, Any]:
    """Look at every acknowledged call, after those under way have ended."""
    states: dict[str, int] = {}
    for one in ids.read_text().split():
        until = time.monotonic() + TIMEOUT_S
        while True:
            status, call = ask("unix", "GET", f"/v1/calls/{one}")
            state = call["state"] if status == 200 else "missing"
            if state not in ("pending", "processing") or time.monotonic() > until:
                break
            time.sleep(PAUSE_S)
        states[state] = states.get(state, 0) + 1
    return states


def kill() -> dict[str, Any]:
    """Kill the daemon and wait until it answers again."""
    show = ("systemctl", "show", "--value", "--property=MainPID", "integrationd.service")
    pid = int(subprocess.run(show, check=True, capture_output=True, text=True).stdout)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    while time.monotonic() - began < TIMEOUT_S:
        try:
            status, _answer = ask("unix", "GET", "/readyz")
        except (OSError, ValueError, http.client.HTTPException):
            status = 0
        if status == 200:
            return {"seconds": time.monotonic() - began}
        time.sleep(0.005)
    return {"seconds": None}


class Sink(http.server.BaseHTTPRequestHandler):
    """Answers after a while."""

    def do_POST(self) -> None:
        """Print what came, and say yes."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(json.dumps(dict(self.headers)), flush=True)
        time.sleep(SINK_S)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def sink(port: int) -> None:
    """Serve until killed."""
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Sink).serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["load", stop]:
            print(json.dumps(load(Path(stop))))
        case ["check", ids]:
            print(json.dumps(check(Path(ids))))
        case ["kill"]:
            print(json.dumps(kill()))
        case ["sink", port]:
            sink(int(port))
        case _:
            sys.exit(__doc__)
