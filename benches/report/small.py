"""Many small requests with a durable audit trail on PostgreSQL: polling, small queries, listings, and clients that differ.

The load generator has the first core; the server under measurement and PostgreSQL have the second, where there is one.
"""

import os
import signal
import statistics
import subprocess

from bench import Failed
from page import Section, Table, mb
from server import Server

CONNECTIONS = [1, 8, 32, 128]
ALL = sorted(os.sched_getaffinity(0))
LOAD, SERVE = {ALL[0]}, {ALL[-1]}


class Polled:
    """A server of ten files on PostgreSQL, and the yardstick beside it."""

    def __init__(self, bench, postgres, name, binary=None):
        self.bench = bench
        self.is_moved = postgres.move(SERVE)
        self.server = Server(bench, name, bench.local(), postgres.create(name), SERVE, binary)
        self.path = self.server.share(bench.table(10))
        environment = {**os.environ, "DATABASE_URL": postgres.create(f"{name}_yardstick")}
        command = [bench.built / "examples/yardstick_server", self.server.tokens]
        self.yardstick = bench.start(command, SERVE, env=environment, stdout=subprocess.PIPE, text=True)
        port = self.yardstick.stdout.readline()
        if not port:
            raise Failed("the yardstick's server did not start")
        self.yardstick_asked = ["--address", f"127.0.0.1:{int(port)}", "--path", "/", "--tokens", self.server.tokens]

    def stop(self):
        self.server.stop()
        self.bench.stop(self.yardstick, signal.SIGKILL)


def load(bench, mode, asked, connections, seconds=None, rate=None, may_refuse=False):
    options = ["--connections", connections, "--seconds", seconds or bench.seconds, *(["--rate", rate] if rate else [])]
    told = bench.run("load", mode, *asked, *options, cores=LOAD)
    refused = {status: count for status, count in told["statuses"].items() if status != "200"}
    if not told["answers"] or (refused or told["broken"]) and not may_refuse:
        raise Failed(f"{' '.join(map(str, asked[2:4]))}: {told}")
    return told


def middle(runs):
    """The median of each figure of several runs."""
    return {key: statistics.median(run[key] for run in runs) for key in ("per_second", "p50_ms", "p99_ms", "max_ms")}


def polled(bench, postgres, title, name, path, body, key):
    """Throughput at rising concurrency beside the yardstick's, and latencies at half of the highest."""
    both = Polled(bench, postgres, name)
    text = [] if body is None else ["--body", "{}"]
    asked = {"Weir": both.server.asked(f"{both.path}/{path}", body), "yardstick": [*both.yardstick_asked, *text]}
    runs = {}
    for _ in range(1 if bench.quick else 3):
        for connections in CONNECTIONS:
            for who in asked:
                runs.setdefault((who, connections), []).append(load(bench, "closed", asked[who], connections))
    rows = []
    for connections in CONNECTIONS:
        weir, yardstick = (middle(runs[who, connections]) for who in asked)
        rows.append([
            connections, f"{weir['per_second']:,.0f}", f"{weir['p50_ms']:.2f}", f"{weir['p99_ms']:.2f}",
            f"{yardstick['per_second']:,.0f}", f"{yardstick['p50_ms']:.2f}", f"{yardstick['p99_ms']:.2f}",
            f"{weir['per_second'] / yardstick['per_second']:.2f}",
        ])
    most = {who: max(middle(runs[who, connections])["per_second"] for connections in CONNECTIONS) for who in asked}
    halves, p99 = [], None
    for who in asked:
        half = middle([load(bench, "open", asked[who], 128, 2 * bench.seconds, most[who] / 2) for _ in range(1 if bench.quick else 3)])
        halves.append([who, f"{most[who]:,.0f}", f"{most[who] / 2:,.0f}", f"{half['p50_ms']:.2f}", f"{half['p99_ms']:.2f}", f"{half['max_ms']:.1f}"])
        p99 = p99 or half["p99_ms"]
    both.stop()
    ratio = most["Weir"] / most["yardstick"]
    figures = {f"{key}_rate": (ratio, f"{ratio:.2f} ({most['Weir']:,.0f} of {most['yardstick']:,.0f} a second)")}
    if key == "version":
        figures["version_p99"] = (p99, f"{p99:.1f} ms")
    where = "the other core" if both.is_moved else "the other core (PostgreSQL could not be moved there)"
    return Section(title, POLLED.format(where=where), [
        Table(["connections", "requests/s", "p50, ms", "p99, ms", "yardstick, requests/s", "p50, ms", "p99, ms", "ratio"], rows),
        Table(["at half of saturation", "highest throughput", "rate", "p50, ms", "p99, ms", "slowest, ms"], halves),
    ], figures)


POLLED = """\
Every request is decided on what the database says at that moment and recorded before it is answered; ten files, local
storage. The load generator has one core, the server and PostgreSQL have {where}. The yardstick is a server of the same HTTP
stack, on the same PostgreSQL, that looks a token up and inserts one row a request, of which concurrent ones share a commit.
Throughput is with so many connections that each ask again as soon as they are answered; the second table is at a fixed rate,
with latency from the moment that a request was due."""


def version(bench, postgres):
    """`/version` at rising concurrency."""
    return polled(bench, postgres, "Polling `/version`", "version", "version", None, "version")


def query(bench, postgres):
    """A 10-file query at rising concurrency."""
    return polled(bench, postgres, "10-file `/query`", "query", "query", {}, "query")


def audit(bench, postgres):
    """The same server built without its audit trail, where WEIR_WITHOUT_AUDIT names it."""
    without = os.environ.get("WEIR_WITHOUT_AUDIT")
    if not without:
        return None
    rows = []
    for name, binary in [("with", None), ("without", without)]:
        both = Polled(bench, postgres, f"{name}_trail", binary)
        for path, body in [("version", None), ("query", {})]:
            told = load(bench, "closed", both.server.asked(f"{both.path}/{path}", body), 32, 2 * bench.seconds)
            rows.append([f"`/{path}`, {name} the trail", f"{told['per_second']:,.0f}", f"{told['p50_ms']:.2f}", f"{told['p99_ms']:.2f}"])
        both.stop()
    columns = ["32 connections", "requests/s", "p50, ms", "p99, ms"]
    return Section("What the audit trail costs", "Beside a build that commits nothing and is for this alone.", [Table(columns, rows)])


def listing(bench, postgres):
    """Listings of a share with many tables."""
    both = Polled(bench, postgres, "listing")
    server, n_tables = both.server, 50 if bench.quick else 500
    for number in range(n_tables - 1):
        server.admin("PUT", f"/shares/bench/objects/a/t{number}", {"source": {"table": "bench.files-10"}})
    rows = []
    for name, path in [("`/shares`", "/shares"), (f"`/all-tables`, {n_tables} tables", "/shares/bench/all-tables"), ("`/metadata`", None)]:
        path = f"/delta-sharing{path}" if path else f"{both.path}/metadata"
        for connections in (1, 32):
            told = load(bench, "closed", server.asked(path), connections)
            rows.append([f"{name}, {connections} connections", f"{told['per_second']:,.0f}", f"{told['p50_ms']:.2f}", f"{told['p99_ms']:.2f}"])
    both.stop()
    return Section("Listing", "Cores as for `/version`, with the same audit trail.", [Table(["request", "requests/s", "p50, ms", "p99, ms"], rows)])


def clients(bench, postgres):
    """Many recipients, idle connections, a slow reader, more than the server takes."""
    both = Polled(bench, postgres, "clients")
    server, rows = both.server, []
    path = f"{both.path}/version"

    def told(name, figures, memory=""):
        refused = ", ".join(f"{count:,} × {status}" for status, count in figures["statuses"].items() if status != "200")
        rows.append([name, f"{figures['per_second']:,.0f}", f"{figures['p50_ms']:.2f}", f"{figures['p99_ms']:.2f}", f"{figures['max_ms']:.0f}", refused or "none", memory])

    alone = load(bench, "closed", server.asked(path), 128)
    told("128 connections of one recipient", alone)
    n_recipients = 30 if bench.quick else 300
    tokens = server.folder / "many-tokens"
    tokens.write_text("".join(server.add_recipient(f"reader-{number}") + "\n" for number in range(n_recipients)))
    told(f"128 connections of {n_recipients} recipients", load(bench, "closed", server.asked(path, tokens=tokens), 128))

    rate, n_idle = alone["per_second"] / 4, 500 if bench.quick else 4_000
    told("at a quarter of that rate", load(bench, "open", server.asked(path), 64, rate=rate))
    before = server.memory()
    holder = bench.start(
        [bench.built / "examples/load", "hold", *server.asked(path), "--connections", n_idle], LOAD, stdout=subprocess.PIPE, text=True
    )
    if not holder.stdout.readline():
        raise Failed("idle connections could not be opened")
    each = (server.memory() - before) / n_idle
    told(f"the same, {n_idle:,} idle connections held open", load(bench, "open", server.asked(path), 64, rate=rate), f"{each:,.0f} bytes a connection")
    bench.stop(holder)

    n_many = 2_000
    server.reset_peak()
    many = load(bench, "closed", server.asked(path), n_many, may_refuse=True)
    told(f"{n_many:,} connections at once, more than are served", many, f"peak {mb(server.memory('VmHWM'))}")
    both.stop()
    mixed_rows = mixed(bench, postgres)
    columns = ["`/version`", "requests/s", "p50, ms", "p99, ms", "slowest, ms", "refused", "memory"]
    return Section("Many clients", CLIENTS, [
        Table(columns, rows),
        Table(["pollers at 200 requests/s", "p50, ms", "p99, ms", "slowest, ms", "beside them", "memory beyond the cache"], mixed_rows),
    ])


CLIENTS = """\
The first table has cores as for `/version`. In the second, server, PostgreSQL and clients share all cores: pollers ask at a
fixed rate while others read the largest table in full again and again, and one reads it at 64 KiB/s."""


def mixed(bench, postgres):
    """Pollers beside readers of everything."""
    postgres.move(set(ALL))
    files = max(bench.sizes)
    server = Server(bench, "mixed", bench.local(), postgres.create("mixed"))
    path, small = server.share(bench.table(files)), server.share(bench.table(10))
    server.query(path, files)
    held, rows = server.memory(), []
    polling = server.asked(f"{small}/version")
    readers = []

    def measure(name):
        server.reset_peak()
        told = bench.run("load", "open", *polling, "--connections", 64, "--seconds", 2 * bench.seconds, "--rate", 200)
        if told["broken"] or set(told["statuses"]) != {"200"}:
            raise Failed(f"pollers {name}: {told}")
        rows.append([name, f"{told['p50_ms']:.2f}", f"{told['p99_ms']:.2f}", f"{told['max_ms']:.0f}", beside(), mb(server.memory("VmHWM") - held)])

    def beside():
        return f"{len(readers)} readers" if readers else "nobody"

    def read(*how):
        command = [bench.built / "examples/load", *how, *server.asked(f"{path}/query", {})]
        readers.append(bench.start(command, stdout=subprocess.DEVNULL))

    measure("alone")
    read("slow", "--bytes-per-second", 64 << 10)
    measure("beside a slow reader")
    read("fetch", "--runs", 1_000_000)
    measure("beside it and a reader of everything")
    for _ in range(3):
        read("fetch", "--runs", 1_000_000)
    measure("beside it and four readers of everything")
    for reader in readers:
        if reader.poll() is not None:
            raise Failed("a reader ended before its time")
        bench.stop(reader, signal.SIGKILL)
    server.stop()
    return rows
