#!/usr/bin/env python3
"""What a paying partner and an operator notice while others attack: `WEIR_BIN=… benches/attacks.py`.

For each attack a server of its own is started on loopback. While the attack runs, from a process of its own, one client
asks in turns for `/healthz`, for a partner's `/version`, and freezes and unfreezes as an operator, each time by a new
connection. What is not answered as it should be within 10 s counts as 10 s. Everything is bounded: a few thousand
connections, and `--seconds` for each attack. `DATABASE=postgres://…` takes a PostgreSQL database instead of SQLite files.
"""

import argparse
import http.client
import http.server
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

OPERATOR = "attacks-bootstrap-token-0123456789abcdef"
TIMEOUT = 10.0
CONNECTIONS = 1_100
OPEN_FILES = 1_024


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def log_of(files):
    """A table's first commit; its data files are never read."""
    schema = {"type": "struct", "fields": [
        {"name": "id", "type": "long", "nullable": True, "metadata": {}},
        {"name": "name", "type": "string", "nullable": True, "metadata": {}},
    ]}
    actions = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {"id": str(uuid.uuid4()), "format": {"provider": "parquet", "options": {}}, "partitionColumns": [],
                      "schemaString": json.dumps(schema), "configuration": {}, "createdTime": 0}},
    ]
    for number in range(files):
        stats = {"numRecords": 10, "minValues": {"id": number, "name": "a"}, "maxValues": {"id": number + 9, "name": "z"},
                 "nullCount": {"id": 0, "name": 0}}
        actions.append({"add": {"path": f"part-{number}.parquet", "partitionValues": {}, "size": 1_000,
                                "modificationTime": 0, "dataChange": True, "stats": json.dumps(stats)}})
    return "\n".join(json.dumps(action) for action in actions) + "\n"


class StallingStore(http.server.BaseHTTPRequestHandler):
    """As much of S3 as a Delta log needs; data files take for ever."""

    protocol_version = "HTTP/1.1"
    log = b""
    key = "claims/_delta_log/00000000000000000000.json"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        stamp = [("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"), ("ETag", '"1"')]
        if "list-type" in query:
            prefix, after = query.get("prefix", [""])[0], query.get("start-after", [""])[0]
            hit = self.key.startswith(prefix) and self.key > after
            contents = (f"<Contents><Key>{self.key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                        f"<ETag>&quot;1&quot;</ETag><Size>{len(self.log)}</Size></Contents>") if hit else ""
            body = (f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>lake</Name><Prefix>{prefix}</Prefix>'
                    f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")
            self.answer(200, body.encode(), [("Content-Type", "application/xml")])
        elif url.path.endswith(self.key):
            wanted = self.headers.get("Range")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                first, last = int(first), min(int(last or len(self.log) - 1), len(self.log) - 1)
                span = [("Content-Range", f"bytes {first}-{last}/{len(self.log)}")]
                self.answer(206, self.log[first:last + 1], stamp + span)
            else:
                self.answer(200, self.log, stamp)
        elif url.path.endswith(".parquet"):
            time.sleep(60)
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET


class Server:
    """`weir serve` with a share that `payer` and `rival` read, and one whose view is never ready."""

    def __init__(self, folder, name, files=10):
        self.folder, self.name, self.process = folder / name, name, None
        self.folder.mkdir()
        self.port = free_port()
        lake = self.folder / "lake/claims/_delta_log"
        lake.mkdir(parents=True)
        (lake / "00000000000000000000.json").write_text(log_of(files))
        StallingStore.log = log_of(2).encode()
        self.store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StallingStore)
        self.store.daemon_threads = True
        threading.Thread(target=self.store.serve_forever, daemon=True).start()
        key = folder / "weir.key"
        if not key.exists():
            key.write_bytes(bytes(range(32)))
            key.chmod(0o600)
        database = os.environ.get("DATABASE") or f"sqlite://{self.folder}/weir.db"
        (self.folder / "weir.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\npublic_url = "http://127.0.0.1:{self.port}"\n'
            f'[log]\nlevel = "error"\n[database]\nurl = "{database}"\n[secrets]\nkey_files = ["{key}"]\n'
            f'[views]\nroot = "file://{self.folder}/copies"\n'
            f'[[storage]]\nname = "lake"\nurl = "file://{self.folder}/lake"\n'
            f'[[storage]]\nname = "slow"\nurl = "s3://lake"\noptions = {{ aws_endpoint = "http://127.0.0.1:'
            f'{self.store.server_address[1]}", aws_allow_http = "true", aws_region = "us-east-1", '
            f'aws_access_key_id = "key", aws_secret_access_key = "secret" }}\n'
        )

    def __enter__(self):
        def limit():
            # As service managers start it, with no way to raise the limit.
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))

        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [os.environ["WEIR_BIN"], "serve", "--migrate", "--config", str(self.folder / "weir.toml")],
            env={**os.environ, "WEIR_BOOTSTRAP_TOKEN": OPERATOR}, stdout=log, stderr=log, preexec_fn=limit)
        began = time.time()
        while True:
            try:
                if self.call("GET", "/readyz")[0] == 200:
                    break
            except OSError:
                pass
            if self.process.poll() is not None or time.time() - began > 60:
                self.__exit__()
                sys.exit("the server does not start: " + (self.folder / "log").read_text()[-2_000:])
            time.sleep(0.1)
        n = self.name
        self.admin("PUT", f"/tables/t.{n}", {"location": f"file://{self.folder}/lake/claims"})
        self.admin("PUT", f"/shares/{n}", {})
        self.admin("PUT", f"/shares/{n}/objects/s/claims", {"source": {"table": f"t.{n}"}})
        self.admin("PUT", f"/tables/slow.{n}", {"location": "s3://lake/claims"})
        self.admin("PUT", f"/views/slow.{n}", {"source": {"table": f"slow.{n}"}, "columns": [
            {"name": "id"}, {"name": "name", "mask": "redact"}]})
        view = self.admin("POST", f"/views/slow.{n}/publish", {})["version"]
        self.admin("PUT", f"/shares/{n}/objects/s/slow", {"source": {"view": f"slow.{n}@v{view}"}})
        self.tokens = {}
        for who in ("payer", "rival"):
            self.admin("PUT", f"/recipients/{who}-{n}", {})
            self.admin("POST", "/grants", {"share": n, "recipient": f"{who}-{n}"})
            issued = self.admin("POST", f"/recipients/{who}-{n}/tokens", {"reveal": True})
            self.tokens[who] = issued["token"]
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.store.shutdown()

    def call(self, method, path, token="", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def admin(self, method, path, body):
        status, text = self.call(method, f"/api/v1{path}", OPERATOR, body)
        if status not in (200, 201):
            sys.exit(f"{method} {path}: {status} {text[:300]}")
        return json.loads(text)

    def table(self, what, table="claims"):
        return f"/delta-sharing/shares/{self.name}/schemas/s/tables/{table}{what}"

    def memory(self):
        """The most memory that it ever had, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024


# Attacks: each goes on until its process is ended.


def connect(port):
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=2)
    except OSError:
        return None


def keep_open(port, begin, count=CONNECTIONS):
    """Keeps `count` connections that begin with these bytes, and replaces those that end."""
    held = []
    while True:
        while len(held) < count:
            connection = connect(port)
            if connection is None:
                break
            try:
                connection.sendall(begin)
                connection.setblocking(False)
                held.append(connection)
            except OSError:
                connection.close()
        alive = []
        for connection in held:
            try:
                ended = connection.recv(4_096) == b""
            except BlockingIOError:
                ended = False
            except OSError:
                ended = True
            if ended:
                connection.close()
            else:
                alive.append(connection)
        held = alive
        time.sleep(0.05)


def half_sent(path, token, length=1_000):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n\r\n{{").encode()


def half_sent_by_nobody(port, path, token):
    keep_open(port, half_sent(path, "weir_nobody"))


def half_sent_by_a_partner(port, path, token):
    keep_open(port, half_sent(path, token))


def half_sent_to_operators(port, path, token):
    keep_open(port, half_sent("/api/v1/freeze", "weirop_nobody"))


def idle_connections(port, path, token):
    keep_open(port, b"")


def half_sent_headers(port, path, token):
    keep_open(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nX-A: ".encode())


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(path, token, streams=128, method="POST", settings=b""):
    """A connection's beginning with so many requests, whose bodies never come; of GET, there are none."""
    def text(value):
        raw = value.encode()
        # A length of seven bits, and what does not fit of it.
        rest, length = len(raw) - 127, bytes([min(len(raw), 127)])
        while rest >= 0:
            more = rest >= 128
            length += bytes([(rest & 127) | (128 if more else 0)])
            rest = (rest >> 7) if more else -1
        return length + raw
    fields = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path),
              ("authorization", f"Bearer {token}"), ("content-type", "application/json")]
    block = b"".join(b"\x00" + text(name) + text(value) for name, value in fields)
    flags = 0x4 if method == "POST" else 0x5
    requests = b"".join(frame(1, flags, 2 * number + 1, block) for number in range(streams))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + requests


def http2_by_nobody(port, path, token):
    keep_open(port, http2(path, "weir_nobody"), 9)


def http2_by_a_partner(port, path, token):
    keep_open(port, http2(path, token), 9)


def answers_not_taken(port, path, token):
    """Answers whose clients open no window for them."""
    keep_open(port, http2("/healthz", "", 1, "GET", struct.pack(">HI", 4, 0)))


def bombs(port, path, token):
    """Six bodies at a time, each with as many hints of 2,000 comparisons as fit."""
    hint = "id IN (" + ",".join(["1"] * 2_000) + ")"
    body = json.dumps({"predicateHints": [hint] * 970}).encode()

    def send():
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("POST", path, body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
                connection.getresponse().read()
            except OSError:
                time.sleep(0.01)
            finally:
                connection.close()

    threads = [threading.Thread(target=send, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    threads[0].join()


def hints_by_nobody(port, path, token):
    bombs(port, path, "weir_nobody")


def hints_by_a_partner(port, path, token):
    bombs(port, path, token)


def waiting_for_copies(port, path, token):
    keep_open(port, half_sent(path.replace("/claims/query", "/slow/query"), token, 2) + b"}")


ATTACKS = [
    (None, 10),
    (half_sent_by_nobody, 10),
    (half_sent_by_a_partner, 10),
    (half_sent_to_operators, 10),
    (half_sent_headers, 10),
    (idle_connections, 10),
    (http2_by_nobody, 10),
    (http2_by_a_partner, 10),
    (answers_not_taken, 10),
    (hints_by_nobody, 2_000),
    (hints_by_a_partner, 2_000),
    (waiting_for_copies, 10),
]


def measure(server, seconds):
    """What each of the calls took, in milliseconds, and how many of them failed."""
    calls = {
        "healthz": lambda: server.call("GET", "/healthz"),
        "version": lambda: server.call("GET", server.table("/version"), server.tokens["payer"]),
        "freeze": lambda: server.call("POST", "/api/v1/freeze", OPERATOR, {"reason": "drill"}),
        "unfreeze": lambda: server.call("POST", "/api/v1/unfreeze", OPERATOR, {"reason": "over"}),
    }
    taken, failed = {name: [] for name in calls}, {name: 0 for name in calls}
    until = time.time() + seconds
    while time.time() < until:
        for name, call in calls.items():
            began = time.time()
            try:
                is_well = call()[0] == 200
            except (OSError, http.client.HTTPException):
                is_well = False
            taken[name].append(1_000 * (time.time() - began if is_well else TIMEOUT))
            failed[name] += not is_well
        time.sleep(0.05)
    return taken, failed


def p99(values):
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=15, help="how long each attack is measured")
    arguments.add_argument("--only", help="the attacks whose names contain this")
    chosen = arguments.parse_args()
    # The attackers need more files than the server may have.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-attacks-"))
    print("| attack | calls | healthz p99 | version p99 | freeze p99 | unfreeze p99 | failed | memory |")
    print("|---|---|---|---|---|---|---|---|")
    try:
        for number, (attack, files) in enumerate(ATTACKS):
            name = attack.__name__.replace("_", " ") if attack else "none"
            if chosen.only and chosen.only not in name:
                continue
            with Server(folder, f"a{os.getpid()}x{number}", files) as server:
                attacker = None
                if attack:
                    path, rival = server.table("/query"), server.tokens["rival"]
                    attacker = multiprocessing.Process(target=attack, args=(server.port, path, rival), daemon=True)
                    attacker.start()
                    time.sleep(2)
                taken, failed = measure(server, chosen.seconds)
                memory = server.memory()
                if attacker:
                    attacker.kill()
                    attacker.join()
            times = " | ".join(f"{p99(values):,.0f} ms" for values in taken.values())
            calls, failures = sum(map(len, taken.values())), sum(failed.values())
            print(f"| {name} | {calls} | {times} | {failures} | {memory:,} MiB |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
