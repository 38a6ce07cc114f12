#!/usr/bin/env python3
"""A warm full query of a large table, from outside: time to the first byte, files per second, CPU per file, peak memory.

Build first: cargo build --release --bin weir --example generate --example s3_server
Then:        benches/full_query.py [FILES] [--runs N]          (default 100,000 files, 5 runs; medians are printed)

The table is a log alone, once in a local folder (sealed URLs) and once in an S3 bucket (presigned URLs; the S3 server
runs beside it and only serves the log). Needs nothing but Python's standard library.
"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import time

TOKEN = "benchmark-bootstrap-token-0123456789abcdef"
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("files", nargs="?", type=int, default=100_000)
    arguments.add_argument("--runs", type=int, default=5)
    arguments = arguments.parse_args()
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        folder = pathlib.Path(folder)
        table = folder / "bucket" / "table"
        subprocess.run([built / "examples" / "generate", table, str(arguments.files)], check=True, stdout=subprocess.DEVNULL)
        s3 = subprocess.Popen([built / "examples" / "s3_server", folder], env={**os.environ, **KEYS}, stdout=subprocess.PIPE)
        try:
            s3_port = int(s3.stdout.readline())
            for name, storage in [("sealed", local(folder)), ("presigned", bucket(s3_port))]:
                measure(built / "weir", folder, name, storage, arguments)
        finally:
            s3.terminate()


def local(folder):
    return f"file://{folder}/bucket", f'[[storage]]\nname = "lake"\nurl = "file://{folder}/bucket"\n'


def bucket(port):
    options = f'{{ aws_endpoint = "http://127.0.0.1:{port}", aws_region = "us-east-1", aws_allow_http = "true", '
    options += f'aws_access_key_id = "{KEYS["AWS_ACCESS_KEY_ID"]}", aws_secret_access_key = "{KEYS["AWS_SECRET_ACCESS_KEY"]}" }}'
    return "s3://bucket", f'[[storage]]\nname = "lake"\nurl = "s3://bucket"\noptions = {options}\n'


def measure(weir, folder, name, storage, arguments):
    url, section = storage
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = folder / name
    here.mkdir()
    (here / "weir.toml").write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\npublic_url = "http://127.0.0.1:{port}"\n[log]\nlevel = "warn"\n{section}'
    )
    environment = {**os.environ, "WEIR_BOOTSTRAP_TOKEN": TOKEN}
    server = subprocess.Popen([weir, "serve", "--config", "weir.toml"], cwd=here, env=environment)
    try:
        wait(port)
        token = share(port, f"{url}/table")
        cold, *_ = query(port, token, arguments.files)
        before = memory(server.pid)
        runs = [timed(server.pid, port, token, arguments.files) for _ in range(arguments.runs)]
        first, total, cpu, size = (statistics.median(column) for column in zip(*runs))
        print(
            f"{name}: {arguments.files:,} files, first byte {first * 1e3:.1f} ms (cold {cold * 1e3:.0f} ms), "
            f"total {total:.2f} s, {arguments.files / total:,.0f} files/s, {size / total / 1e6:.0f} MB/s, "
            f"CPU {cpu / arguments.files * 1e6:.1f} µs a file, memory before {before['VmRSS'] // 1024} MB, "
            f"peak {memory(server.pid)['VmHWM'] // 1024} MB"
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def call(port, method, path, token, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection.getresponse()


def wait(port):
    deadline = time.time() + 60
    while time.time() < deadline:
        try:
            if call(port, "GET", "/readyz", "").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server is not ready")


def share(port, location):
    def admin(method, path, body):
        answer = call(port, method, f"/api/v1{path}", TOKEN, body)
        text = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {text}")
        return json.loads(text)

    admin("PUT", "/tables/bench.table", {"location": location})
    admin("PUT", "/shares/bench", {})
    admin("PUT", "/shares/bench/objects/a/t", {"source": {"table": "bench.table"}})
    admin("PUT", "/recipients/reader", {})
    admin("POST", "/grants", {"share": "bench", "recipient": "reader"})
    return admin("POST", "/recipients/reader/tokens", {"reveal": True})["token"]


def query(port, token, files):
    begun = time.perf_counter()
    answer = call(port, "POST", "/delta-sharing/shares/bench/schemas/a/tables/t/query", token, {})
    answer.read(1)
    first, lines, size = time.perf_counter() - begun, 0, 1
    while chunk := answer.read(1 << 16):
        lines, size = lines + chunk.count(b"\n"), size + len(chunk)
    if lines != files + 2:
        raise SystemExit(f"{lines} lines for {files} files")
    return first, time.perf_counter() - begun, size


def timed(pid, port, token, files):
    begun = processor(pid)
    first, total, size = query(port, token, files)
    return first, total, processor(pid) - begun, size


def processor(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid):
    """In KiB."""
    pairs = (line.split(":") for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return {key: int(value.split()[0]) for key, value in pairs if key in ("VmRSS", "VmHWM")}


if __name__ == "__main__":
    main()
