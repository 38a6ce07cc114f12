#!/usr/bin/env python3
"""What the durable audit trail costs on PostgreSQL: requests per second and p99 of /version and of a 10-file /query,
against a build that does one batched transaction with nothing in it instead.

Build first, both binaries:
    cargo build --release --bin weir --example generate
    cargo build --release --bin weir --features benchmark-without-audit --target-dir $CARGO_TARGET_DIR/without-audit
Then, with wrk (Debian's package of that name) and a PostgreSQL that WEIR_TEST_POSTGRES names:
    tests/setup/with-services benches/audit_cost.py [--seconds 10] [--connections 32]

The load generator has one core; the server and, as far as it can be moved, PostgreSQL have the other.
"""

import argparse
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import urllib.parse

from full_query import call, share, wait

POST = 'wrk.method = "POST"\nwrk.body = "{}"\nwrk.headers["Content-Type"] = "application/json"\n'
PATH = "/delta-sharing/shares/bench/schemas/a/tables/t"
TOKEN = "benchmark-bootstrap-token-0123456789abcdef"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--connections", type=int, default=32)
    arguments = arguments.parse_args()
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    move_postgres()
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        folder = pathlib.Path(folder)
        subprocess.run([built / "release/examples/generate", folder / "lake/table", "10"], check=True, stdout=subprocess.DEVNULL)
        (folder / "post.lua").write_text(POST)
        (folder / "weir.key").write_bytes(os.urandom(32))
        (folder / "weir.key").chmod(0o600)
        rates = {}
        for name, binary in [("audit", built / "release/weir"), ("no-op", built / "without-audit/release/weir")]:
            for what, figures in load(binary, folder, name, arguments).items():
                rates.setdefault(what, []).append(figures)
        for what, (audit, nothing) in rates.items():
            print(
                f"{what}: audit {audit[0]:,.0f} requests/s, p99 {audit[1]}; no-op {nothing[0]:,.0f} requests/s, "
                f"p99 {nothing[1]}; ratio {audit[0] / nothing[0]:.2f}"
            )


def move_postgres():
    for pid in subprocess.run(["pgrep", "postgres"], capture_output=True, text=True).stdout.split():
        subprocess.run(["taskset", "-acp", "1", pid], capture_output=True)


def load(binary, folder, name, arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = urllib.parse.urlsplit(os.environ["WEIR_TEST_POSTGRES"])
    database = "bench_" + re.sub(r"\W", "_", name)
    subprocess.run(["psql", "-q", base.geturl(), "-c", f"CREATE DATABASE {database}"], check=True)
    (folder / "weir.toml").write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\npublic_url = "http://127.0.0.1:{port}"\n[log]\nlevel = "warn"\n'
        f'[database]\nurl = "{base._replace(path="/" + database).geturl()}"\n[secrets]\nkey_files = ["{folder}/weir.key"]\n'
        f'[[storage]]\nname = "lake"\nurl = "file://{folder}/lake"\n'
    )
    environment = {**os.environ, "WEIR_BOOTSTRAP_TOKEN": TOKEN}
    command = ["taskset", "-c", "1", binary, "serve", "--migrate", "--config", folder / "weir.toml"]
    server = subprocess.Popen(command, env=environment)
    try:
        wait(port)
        token = share(port, f"file://{folder}/lake/table")
        assert call(port, "POST", f"{PATH}/query", token, {}).status == 200
        move_postgres()
        return {
            "/version": wrk(port, token, f"{PATH}/version", [], arguments),
            "10-file /query": wrk(port, token, f"{PATH}/query", ["-s", folder / "post.lua"], arguments),
        }
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(40)


def wrk(port, token, path, extra, arguments):
    command = ["taskset", "-c", "0", "wrk", "-t1", f"-c{arguments.connections}", f"-d{arguments.seconds}s", "--latency"]
    command += [*extra, "-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{port}{path}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text:
        raise SystemExit(text)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), re.search(r"99%\s+(\S+)", text)[1]


if __name__ == "__main__":
    main()
