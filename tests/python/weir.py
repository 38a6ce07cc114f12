"""A `weir serve` or `weir demo` process, and its admin API. Knows only what an operator may rely on."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOTSTRAP_TOKEN = "tests-bootstrap-token-0123456789abcdef0123456789"


def target_dir():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def binary():
    return pathlib.Path(os.environ.get("WEIR_BIN", target_dir() / "debug" / "weir")).absolute()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pass_on(source, target):
    """Passes on what one socket receives to another, until one of them ends."""
    with contextlib.suppress(OSError):
        while received := source.recv(65536):
            target.sendall(received)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Process:
    """The binary, run in `directory`; its output goes to `directory/weir.log`."""

    def __init__(self, directory, port):
        self.directory = directory
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = directory / "weir.log"
        self.process = None

    def run(self, *arguments, env=None, ready_within_seconds=60):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(binary()), *arguments], cwd=self.directory, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
        deadline = time.monotonic() + ready_within_seconds
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"weir ended at start with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"weir was not ready within {ready_within_seconds} s:\n{self.log()}")
            time.sleep(0.05)

    def is_ready(self):
        try:
            return requests.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("weir did not stop within 20 s of SIGTERM")

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class Server(Process):
    """`weir serve` with one recipient, `partner`, who is granted the share `lake`."""

    def __init__(self, directory, storages, database=None, sharing="", more="", public_url=None, drain_seconds=0):
        """`storages` are TOML tables as text, `sharing` lines of that section, `more` further sections; `database` is a PostgreSQL
        URL, SQLite where absent. Recipients reach it by `public_url`, its own address where absent."""
        super().__init__(directory, free_port())
        self.needs_migration = database is not None
        key = directory / "weir.key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        self.config = directory / "weir.toml"
        self.config.write_text(
            f"""[server]
listen = "127.0.0.1:{self.port}"
public_url = "{public_url or self.url}"
drain_seconds = {drain_seconds}

[database]
url = "{database or f'sqlite://{directory}/weir.db'}"

[secrets]
key_files = ["{key}"]

[sharing]
{sharing}

[views]
root = "file://{directory}/copies"
"""
            + "".join(f"\n[[storage]]\n{storage}\n" for storage in storages)
            + more
        )

    def serve(self):
        migrate = ["--migrate"] if self.needs_migration else []
        self.run("serve", "--config", str(self.config), *migrate, env={"WEIR_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN})

    def restart(self):
        """Stops the server and starts it anew on the same address, with what it had stored."""
        self.stop()
        self.serve()

    def start(self):
        self.serve()
        self.admin("PUT", "/shares/lake", {})
        self.admin("PUT", "/recipients/partner", {})
        self.admin("POST", "/grants", {"share": "lake", "recipient": "partner"})
        token = self.admin("POST", "/recipients/partner/tokens", {"expires_in_seconds": 86400, "reveal": True})
        self.token = token["token"]
        self.profile = self.directory / "partner.share"
        self.profile.write_text(json.dumps(token["profile"]))

    def admin(self, method, path, body=None):
        response = self.try_admin(method, path, body)
        if not response.ok:
            raise RuntimeError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()

    def try_admin(self, method, path, body=None):
        headers = {"authorization": f"Bearer {BOOTSTRAP_TOKEN}"}
        return requests.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=60)

    def register(self, location):
        """Registers the table at `location` under a name made of its last segment: the name, and the response."""
        name = re.sub(r"[^a-z0-9_]", "_", location.rstrip("/").rsplit("/", 1)[-1].lower())
        return name, self.try_admin("PUT", f"/tables/{location.partition(':')[0]}.{name}", {"location": location})

    def share(self, location):
        """Shares the table at `location` with the partner: `SCHEMA.TABLE` in the share `lake`. Doing it twice is fine."""
        name, response = self.register(location)
        if not response.ok:
            raise RuntimeError(f"{location} was not registered: {response.status_code} {response.text}")
        schema = location.partition(":")[0]
        self.admin("PUT", f"/shares/lake/objects/{schema}/{name}", {"source": {"table": f"{schema}.{name}"}})
        return f"{schema}.{name}"

    def share_view(self, location, name, columns, row_filter=None, **properties):
        """Shares a view over the table at `location`, with its past: `views.NAME` in the share `lake`."""
        table, response = self.register(location)
        if not response.ok:
            raise RuntimeError(f"{location} was not registered: {response.status_code} {response.text}")
        if properties:
            self.admin("PATCH", "/recipients/partner", {"properties": properties})
        source = {"table": f"{location.partition(':')[0]}.{table}"}
        self.admin("PUT", f"/views/{name}", {"source": source, "columns": columns, "row_filter": row_filter})
        view = self.admin("POST", f"/views/{name}/publish", {})["view"]
        self.admin("PUT", f"/shares/lake/objects/views/{name}", {"source": {"view": view}, "history": True, "start_version": 0})
        return f"views.{name}"

    def share_history(self, location):
        """Shares the table at `location` with all its past and its change data feed, beside the object that `share` makes."""
        name, response = self.register(location)
        if not response.ok:
            raise RuntimeError(f"{location} was not registered: {response.status_code} {response.text}")
        source = {"table": f"{location.partition(':')[0]}.{name}"}
        self.admin("PUT", f"/shares/lake/objects/past/{name}", {"source": source, "history": True, "cdf": True, "start_version": 0})
        return f"past.{name}"

    def audit(self, action, table):
        """The events of `action` on `table`, `SCHEMA.TABLE` in the share `lake`, the oldest first."""
        events, after = [], 0
        while True:
            path = f"/audit?action={action}&share=lake&table={table}&order=asc&max_results=1000&after_seq={after}"
            page = self.admin("GET", path)["items"]
            if not page:
                return events
            events, after = events + page, page[-1]["seq"]

    def table_url(self, table):
        """What the connectors' `load` functions take."""
        return f"{self.profile}#lake.{table}"

    def query(self, table, capabilities=None):
        """The response of a full query, as raw HTTP."""
        schema, name = table.split(".")
        headers = {"authorization": f"Bearer {self.token}"}
        if capabilities:
            headers["delta-sharing-capabilities"] = capabilities
        path = f"/delta-sharing/shares/lake/schemas/{schema}/tables/{name}/query"
        return requests.post(self.url + path, json={}, headers=headers, timeout=60)
