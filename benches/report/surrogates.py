"""What drawing many surrogates costs those who only ask for a table's version: `python3 benches/report/surrogates.py NUMBER`.

Run under tests/setup/with-services, with weir and the examples built for release. It makes a table of so many members,
has the files of a view made that shows each as a surrogate, and asks for another table's version at a fixed rate before
and meanwhile, on SQLite and on PostgreSQL.
"""

import argparse
import json
import pathlib
import signal
import statistics
import sys
import tempfile
import threading
import time
import types

import pyarrow
import pyarrow.parquet
from bench import Bench, Failed
from postgres import Postgres
from server import Server

#: Members in one file.
ROWS = 100_000
#: A measurement's length in seconds, and requests in a second.
SECONDS, RATE = 5, 200


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=lambda text: int(text.replace("_", "")), help="how many surrogates are drawn")
    number = parser.parse_args().number
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        bench = postgres = None
        try:
            bench = Bench(pathlib.Path(folder), types.SimpleNamespace(quick=False, files=[10]))
            postgres = Postgres()
            make_table(bench.lake / "members", number)
            for name, database in [("SQLite", None), ("PostgreSQL", postgres.create("surrogates"))]:
                print(json.dumps({"database": name, "surrogates": number, **measured(bench, name, database, number)}), flush=True)
        except Failed as failed:
            raise SystemExit(f"surrogates: {failed}") from None
        finally:
            if bench:
                bench.stop_all()
            if postgres:
                postgres.drop_all()


def make_table(folder, number):
    """A Delta table of `number` members, each in one row."""
    (folder / "_delta_log").mkdir(parents=True)
    fields = [{"name": name, "type": "string", "nullable": True, "metadata": {}} for name in ("member", "note")]
    schema = json.dumps({"type": "struct", "fields": fields})
    actions = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {"id": "00000000-0000-4000-8000-000000000029", "format": {"provider": "parquet", "options": {}},
                      "schemaString": schema, "partitionColumns": [], "configuration": {}, "createdTime": 1}},
    ]
    for first in range(0, number, ROWS):
        members = [f"M-{member:09}" for member in range(first, min(first + ROWS, number))]
        path = folder / f"part-{first // ROWS:05}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"member": members, "note": ["x"] * len(members)}), path)
        actions.append({"add": {"path": path.name, "partitionValues": {}, "size": path.stat().st_size, "dataChange": True,
                                "modificationTime": 1, "stats": json.dumps({"numRecords": len(members)})}})
    (folder / "_delta_log" / f"{0:020}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))


def measured(bench, name, database, number):
    """Latencies of `/version` in milliseconds before and while so many surrogates are drawn."""
    copies = bench.folder / f"copies-{name}"
    copies.mkdir()
    views = f'[views]\nroot = "file://{copies}"\nmax_surrogates = {number}\n'
    server = Server(bench, name, bench.local(), database, extra=views)
    path = server.share(bench.table(10))
    server.admin("PUT", "/tables/bench.members", {"location": f"{server.url}/members"})
    columns = [{"name": "member", "mask": {"surrogate": {"domain": "member"}}}, {"name": "note"}]
    server.admin("PUT", "/views/bench.shown", {"source": {"table": "bench.members"}, "columns": columns})
    view = server.admin("POST", "/views/bench.shown/publish", {})["view"]
    load(bench, server, path)
    idle = [load(bench, server, path) for _ in range(3)]
    server.admin("PUT", "/shares/bench/objects/a/shown", {"source": {"view": view}})
    begun = time.perf_counter()
    made = {}

    def make():
        while True:
            status, text = server.call("POST", "/delta-sharing/shares/bench/schemas/a/tables/shown/query", server.token, {})
            if status != 503:
                made.update(status=status, text=text.decode(errors="replace")[:300], seconds=time.perf_counter() - begun)
                return

    maker = threading.Thread(target=make)
    maker.start()
    busy = [load(bench, server, path)]
    while maker.is_alive():
        busy.append(load(bench, server, path))
    maker.join()
    drawn = server.metric("weir_surrogates_drawn_total")
    server.stop()
    if made["status"] != 200 or drawn != number:
        raise Failed(f"{name}: {made['status']} {made['text']}; {drawn:.0f} of {number} were drawn")
    # The last measurement may have begun when all were drawn.
    busy = busy[:-1] or busy
    return {
        "seconds": round(made["seconds"], 1),
        "idle": {key: statistics.median(run[key] for run in idle) for key in ("p50_ms", "p99_ms", "max_ms")},
        "drawing": {
            "p50_ms": statistics.median(run["p50_ms"] for run in busy),
            "p99_ms": statistics.median(run["p99_ms"] for run in busy),
            "worst_p99_ms": max(run["p99_ms"] for run in busy),
            "max_ms": max(run["max_ms"] for run in busy),
        },
        "measurements": len(busy),
    }


def load(bench, server, path):
    asked = server.asked(f"{path}/version")
    told = bench.run("load", "open", *asked, "--connections", 16, "--seconds", SECONDS, "--rate", RATE)
    if set(told["statuses"]) != {"200"} or told["broken"]:
        raise Failed(f"{path}/version: {told}")
    return told


if __name__ == "__main__":
    main()
