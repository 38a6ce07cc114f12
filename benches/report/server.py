"""A server under measurement, and what it costs its machine."""

import http.client
import json
import os
import pathlib
import re
import socket
import subprocess

from bench import Failed, wait_until

OPERATOR = "benchmark-bootstrap-token-0123456789abcdef"
#: What snapshots may take here: the largest table of the benchmarks must fit beside its columns.
CACHE_BYTES = 4 << 30


class Server:
    """`weir serve` with one share, and one recipient that reads it; on SQLite unless a PostgreSQL is named."""

    def __init__(self, bench, name, storage, database=None, cores=None, binary=None, extra="", properties=None):
        self.bench, self.cores, self.binary, self.process = bench, cores, binary or bench.weir, None
        self.folder = bench.folder / f"server-{name}"
        self.folder.mkdir()
        self.url, options = storage
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        key = self.folder / "weir.key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        database = f'[database]\nurl = "{database}"\n' if database else ""
        (self.folder / "weir.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\npublic_url = "http://127.0.0.1:{self.port}"\n'
            f'[log]\nlevel = "warn"\n[lake]\ncache_bytes = {CACHE_BYTES}\n{database}{extra}'
            f'[[storage]]\nname = "lake"\nurl = "{self.url}"\n{options}'
        )
        self.start()
        self.admin("PUT", "/shares/bench", {})
        self.tokens = self.folder / "tokens"
        self.token = self.add_recipient("reader", properties)
        self.tokens.write_text(self.token + "\n")

    def start(self):
        """Starts it, and waits until it is ready."""
        log = self.folder / "log"
        command = [self.binary, "serve", "--migrate", "--config", "weir.toml"]
        environment = {**os.environ, "WEIR_BOOTSTRAP_TOKEN": OPERATOR}
        with open(log, "ab") as written:
            self.process = self.bench.start(command, self.cores, cwd=self.folder, env=environment, stderr=written)

        def is_ready():
            if self.process.poll() is not None:
                raise Failed(f"the server ended:\n{log.read_text()[-2000:]}")
            try:
                return self.call("GET", "/readyz", "")[0] == 200
            except OSError:
                return False

        wait_until(is_ready, "the server is not ready")

    def stop(self):
        self.bench.stop(self.process)

    def restart(self):
        self.stop()
        self.start()

    def call(self, method, path, token, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    def admin(self, method, path, body=None):
        status, text = self.call(method, f"/api/v1{path}", OPERATOR, body)
        if status not in (200, 201):
            raise Failed(f"{method} {path}: {status} {text.decode(errors='replace')}")
        return json.loads(text)

    def add_recipient(self, name, properties=None):
        """A recipient that is granted the share; answers its token."""
        limits = {"requests_per_minute": 10**9, "concurrent_streams": 10**6}
        self.admin("PUT", f"/recipients/{name}", {"limits": limits, **({"properties": properties} if properties else {})})
        self.admin("POST", "/grants", {"share": "bench", "recipient": name})
        return self.admin("POST", f"/recipients/{name}/tokens", {"reveal": True})["token"]

    def share(self, table):
        """Shares a table of the lake; answers its path in the protocol."""
        self.admin("PUT", f"/tables/bench.{table}", {"location": f"{self.url}/{table}"})
        self.admin("PUT", f"/shares/bench/objects/a/{table}", {"source": {"table": f"bench.{table}"}})
        return f"/delta-sharing/shares/bench/schemas/a/tables/{table}"

    def asked(self, path, body=None, tokens=None):
        """What the load generator asks."""
        body = [] if body is None else ["--body", json.dumps(body)]
        return ["--address", f"127.0.0.1:{self.port}", "--path", path, "--tokens", tokens or self.tokens, *body]

    def fetch(self, path, body=None, runs=1, lines=None, **how):
        """Answers that are read to their ends, one after the other."""
        flags = ["--first-byte-only"] if how.pop("first_byte_only", False) else []
        told = self.bench.run("load", "fetch", *self.asked(path, body), "--runs", runs, *flags, **how)
        for answer in told:
            if answer["status"] != 200 or lines not in (None, answer["lines"]):
                raise Failed(f"{path}: status {answer['status']}, {answer['lines']} lines where {lines} were expected")
        return told

    def query(self, path, files, runs=1, body=None):
        """Queries of `files` files, read to their ends; the first two lines are about the table."""
        return self.fetch(f"{path}/query", body or {}, runs, files + 2)

    def processor(self):
        """Seconds of processor time that it has taken so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what="VmRSS"):
        """In bytes: VmRSS is what it holds, VmHWM the most that it held since the peak was last reset."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{what}:\s+(\d+) kB$", text, re.MULTILINE)[1]) << 10

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def metric(self, name):
        _, text = self.call("GET", "/metrics", OPERATOR)
        found = re.search(rf"^{name} (\S+)$", text.decode(), re.MULTILINE)
        if found is None:
            raise Failed(f"there is no metric {name}")
        return float(found[1])
