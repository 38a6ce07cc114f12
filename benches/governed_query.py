#!/usr/bin/env python3
"""What a view costs its readers, from outside: a warm query beside the same of the raw table, the query after a commit of
one file, and a preview.

Build first: cargo build --release --bin weir
Then:        benches/governed_query.py [FILES] [--rows N] [--runs N]     (default 1,000 files of 2,000 rows, 30 runs)

Needs pyarrow. Medians are printed. The time of one file is the same query on a table of one file.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import time

import pyarrow
import pyarrow.parquet

from full_query import TOKEN, call, wait

PLANS = ["HMO", "PPO", "EPO", "POS"]
COLUMNS = [
    {"name": "claim", "from": "id"},
    {"name": "member", "mask": {"hash": {"domain": "member"}}},
    {"name": "plan"},
    {"name": "paid"},
    {"name": "zip3", "from": "zip", "mask": "zip3"},
]
ROW_FILTER = "plan IN recipient_list('plans')"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("files", nargs="?", type=int, default=1_000)
    arguments.add_argument("--rows", type=int, default=2_000)
    arguments.add_argument("--runs", type=int, default=30)
    arguments = arguments.parse_args()
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        measure(pathlib.Path(folder), os.environ.get("WEIR_BIN", built / "weir"), arguments)


def measure(folder, binary, arguments):
    large, small = Table(folder / "lake/large", arguments.rows), Table(folder / "lake/small", arguments.rows)
    large.commit(arguments.files)
    small.commit(1)
    server = Server(folder, binary)
    try:
        for name in ["large", "small"]:
            server.share(name, folder / f"lake/{name}")
        begun = time.perf_counter()
        server.query("small_view")
        server.query("large_view")
        print(f"{arguments.files:,} files of {arguments.rows:,} rows made for the first reader in {time.perf_counter() - begun:.1f} s")
        kinds = {"raw": [], "view": []}
        for _ in range(arguments.runs):
            for kind, times in kinds.items():
                times.append(server.query(f"large_{kind}")[0])
        raw, view = (statistics.median(times) for times in kinds.values())
        print(f"warm query of {arguments.files:,} files: raw {raw * 1e3:.2f} ms, view {view * 1e3:.2f} ms, ratio {view / raw:.2f}")
        after = {"large": [], "small": []}
        for _ in range(arguments.runs):
            for name, table in [("small", small), ("large", large)]:
                before = server.copies(f"{name}_view")
                version = table.commit(1)
                after[name].append(server.query(f"{name}_view", {"version": version})[0])
                made = server.copies(f"{name}_view") - before
                if made != 1:
                    raise SystemExit(f"{made} files were made for one that was committed")
        few, many = statistics.median(after["small"]), statistics.median(after["large"])
        print(
            f"query after a commit of one file, one file made each time: table of {arguments.files:,} {many * 1e3:.1f} ms, "
            f"table of one {few * 1e3:.1f} ms, ratio {many / few:.2f}"
        )
        previews = []
        for _ in range(arguments.runs):
            begun = time.perf_counter()
            rows = server.admin("POST", "/views/bench.large_view/preview", {"recipient": "reader", "limit": 100})["evidence"]["rows"]
            previews.append(time.perf_counter() - begun)
            assert len(rows) == 100, rows
        print(f"preview of 100 rows of {arguments.files:,} files: {statistics.median(previews) * 1e3:.1f} ms")
    finally:
        server.stop()


class Table:
    """A Delta table whose files are all alike but for their names."""

    def __init__(self, folder, rows):
        self.folder, self.version, self.files = folder, -1, 0
        (folder / "_delta_log").mkdir(parents=True)
        ids = range(rows)
        self.data = pyarrow.table(
            {
                "id": list(ids),
                "member": [f"member-{i % 997}" for i in ids],
                "plan": [PLANS[i % 4] for i in ids],
                "zip": [f"{60000 + i % 700}" for i in ids],
                "note": [f"said on the phone that number {i} is settled" for i in ids],
                "paid": [i * 1.25 for i in ids],
            }
        )

    def commit(self, files):
        actions = []
        if self.version < 0:
            types = {"id": "long", "paid": "double"}
            fields = [
                {"name": name, "type": types.get(name, "string"), "nullable": True, "metadata": {}}
                for name in self.data.column_names
            ]
            schema = json.dumps({"type": "struct", "fields": fields})
            actions.append({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
            actions.append(
                {"metaData": {"id": f"00000000-0000-4000-8000-{id(self) % 10**12:012}", "format": {"provider": "parquet", "options": {}},
                              "schemaString": schema, "partitionColumns": [], "configuration": {}, "createdTime": 1}}
            )
        for _ in range(files):
            path = self.folder / f"part-{self.files:05}.parquet"
            pyarrow.parquet.write_table(self.data, path)
            stats = {"numRecords": len(self.data), "minValues": {"id": 0}, "maxValues": {"id": len(self.data) - 1}, "nullCount": {"id": 0}}
            actions.append(
                {"add": {"path": path.name, "partitionValues": {}, "size": path.stat().st_size, "dataChange": True,
                         "modificationTime": int(time.time() * 1e3), "stats": json.dumps(stats)}}
            )
            self.files += 1
        self.version += 1
        log = self.folder / "_delta_log" / f"{self.version:020}.json"
        unfinished = log.with_suffix(".new")
        unfinished.write_text("".join(json.dumps(action) + "\n" for action in actions))
        unfinished.rename(log)
        return self.version


class Server:
    """A server of its own, with one reader of everything."""

    def __init__(self, folder, binary):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "copies").mkdir()
        (folder / "weir.toml").write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\npublic_url = "http://127.0.0.1:{self.port}"\n[log]\nlevel = "warn"\n'
            f'[[storage]]\nname = "lake"\nurl = "file://{folder}/lake"\n[views]\nroot = "file://{folder}/copies"\n'
        )
        environment = {**os.environ, "WEIR_BOOTSTRAP_TOKEN": TOKEN}
        self.process = subprocess.Popen([binary, "serve", "--config", "weir.toml"], cwd=folder, env=environment)
        wait(self.port)
        self.admin("PUT", "/shares/bench", {})
        self.admin("PUT", "/recipients/reader", {"properties": {"plans": ["HMO", "PPO"]}})
        self.admin("POST", "/grants", {"share": "bench", "recipient": "reader"})
        self.token = self.admin("POST", "/recipients/reader/tokens", {"reveal": True})["token"]

    def share(self, name, location):
        self.admin("PUT", f"/tables/bench.{name}", {"location": f"file://{location}"})
        past = {"history": True, "start_version": 0}
        self.admin("PUT", f"/shares/bench/objects/a/{name}_raw", {"source": {"table": f"bench.{name}"}, **past})
        view = {"source": {"table": f"bench.{name}"}, "columns": COLUMNS, "row_filter": ROW_FILTER}
        self.admin("PUT", f"/views/bench.{name}_view", view)
        view = self.admin("POST", f"/views/bench.{name}_view/publish", {})["view"]
        self.admin("PUT", f"/shares/bench/objects/a/{name}_view", {"source": {"view": view}, **past})

    def copies(self, view):
        """How many copies a view has."""
        total, token = 0, ""
        while True:
            page = self.admin("GET", f"/copies?view=bench.{view}&state=ready&max_results=1000{token}", None)
            total += len(page["items"])
            if "next_page_token" not in page:
                return total
            token = f"&page_token={page['next_page_token']}"

    def query(self, name, body=None):
        """Seconds that a query takes to its last byte, whose files a server that is not ready makes first."""
        begun = time.perf_counter()
        path = f"/delta-sharing/shares/bench/schemas/a/tables/{name}/query"
        while True:
            answer = call(self.port, "POST", path, self.token, body or {})
            text = answer.read()
            if answer.status == 200:
                return time.perf_counter() - begun, text.count(b"\n")
            if answer.status != 503:
                raise SystemExit(f"{path}: {answer.status} {text}")

    def admin(self, method, path, body):
        answer = call(self.port, method, f"/api/v1{path}", TOKEN, body)
        text = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {text}")
        return json.loads(text)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


if __name__ == "__main__":
    main()
