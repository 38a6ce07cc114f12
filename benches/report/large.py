"""Large tables: full, selective, paged and incremental queries, and logs of other shapes."""

import http.client
import json
import time

from page import Section, Table, at, mb, median, ms
from server import Server

#: How many files are streamed altogether for one figure of warm queries, so that clock ticks are fine enough.
STREAMED = 2_000_000
COLD_RUNS = 3


def warm_runs(bench, files):
    most = 20 if bench.quick else 100
    return max(bench.runs, min(most, (STREAMED // 10 if bench.quick else STREAMED) // files))


def cold(bench, server, path, files):
    """First queries of freshly started servers; the last one stays up. Answers the runs, the memory of a server that has
    loaded nothing, and the peak."""
    runs = []
    for _ in range(1 if bench.quick else COLD_RUNS):
        server.restart()
        fresh = server.memory()
        runs += server.query(path, files)
    return runs, fresh, server.memory("VmHWM")


def full(bench):
    """Cold and warm full queries of every size, by sealed URLs and by presigned ones."""
    latencies, costs, memories, figures, cpu = [], [], [], {}, {}
    for kind, storage in [("local", bench.local()), ("S3", bench.s3())]:
        server = Server(bench, f"full-{kind}", storage)
        for files in bench.sizes:
            table = bench.table(files)
            yardsticks = bench.yardsticks(table)
            decode = yardsticks["decode_seconds"]
            path = server.share(table)
            if kind == "local":
                bench.forget(table)
                server.restart()
                [from_disk] = server.query(path, files)
            runs, fresh, cold_peak = cold(bench, server, path, files)
            first, total = median(runs, "first_seconds"), median(runs, "total_seconds")
            held, cached = server.memory(), server.metric("weir_snapshot_cache_bytes")
            server.reset_peak()
            begun = server.processor()
            warm = server.query(path, files, warm_runs(bench, files))
            spent = (server.processor() - begun) / len(warm) / files
            peak = server.memory("VmHWM")
            warm_first, warm_total, size = (median(warm, key) for key in ("first_seconds", "total_seconds", "bytes"))
            disk = ms(from_disk["first_seconds"]) if kind == "local" else "–"
            latencies.append([
                f"{kind}, {files:,}", ms(decode), ms(first), f"{first / decode:.2f}", ms(total), f"{total / decode:.2f}", disk,
                ms(warm_first), ms(warm_total),
            ])
            costs.append([
                f"{kind}, {files:,}", f"{files / warm_total:,.0f}", f"{size / warm_total / 1e6:,.0f}", f"{size / files:,.0f}",
                f"{spent * 1e6:.2f} µs", f"{yardsticks['sha256_ns'] / 1e3:.2f} µs", f"{spent * 1e9 / yardsticks['sha256_ns']:.2f}",
            ])
            grown = (held - fresh) / files
            memories.append([
                f"{kind}, {files:,}", mb(fresh), mb(cold_peak), mb(held), f"{cached / files:,.0f}", f"{grown:,.0f}",
                mb(peak - held), mb(peak - fresh - cached),
            ])
            cpu[kind] = spent * 1e9 / yardsticks["sha256_ns"]
            if kind == "local":
                figures |= {
                    "cold_first": (first / decode, f"{first / decode:.2f}{at(files)}"),
                    "cold_total": (total / decode, f"{total / decode:.2f}{at(files)}"),
                    "warm_first": (warm_first * 1e3, ms(warm_first) + at(files)),
                    "resident": (cached / files, f"{cached / files:,.0f}; the process grew by {grown:,.0f}{at(files)}"),
                }
                figures["streaming"] = ((peak - held) / 1e6, mb(peak - held) + at(files))
        server.stop()
    figures["warm_cpu"] = (max(cpu.values()), "; ".join(f"{kind} {ratio:.2f}" for kind, ratio in cpu.items()) + at(files))
    return Section("Full query", FULL, [
        Table(["storage, files", "decoding `add`", "cold, first byte", "ratio", "cold, last byte", "ratio", "cold, log on disk, first byte", "warm, first byte", "warm, last byte"], latencies),
        Table(["storage, files", "files/s, warm", "NDJSON MB/s", "bytes a file", "CPU a file", "SHA-256 of one KiB", "ratio"], costs),
        Table(["storage, files", "fresh server", "peak of the cold query", "held then", "cached bytes a file", "growth a file", "streaming, beyond what was held", "streaming, beyond fresh and cache"], memories),
    ], figures)


FULL = """\
Every file of a table, from a log with a checkpoint of all files but one and one commit after it; five columns, about 300
bytes of statistics in JSON a file. *Cold* is the first query of a freshly started server, the log being in the page cache
(as for the yardstick) unless the column says otherwise; *warm* is any later one. CPU is the server's, both user and
system. Memory is the process's resident set: its peak during warm streaming is told beyond what it held right before, and
beyond a fresh server and what the cache says that it holds. S3 is an S3 server on the same machine, whose own work counts
in cold queries."""


def selective(bench):
    """Predicates that keep few files."""
    rows, figures = [], {}
    server = Server(bench, "selective", bench.local())
    for files in bench.sizes:
        path = server.share(bench.table(files))
        server.query(path, files)
        before, slowest = server.metric("weir_snapshot_cache_bytes"), 0
        middle = files // 2 * 1_000
        predicates = {
            "a partition": "day = '2025-03-03'",
            "a range of a long": f"member_id BETWEEN {middle} AND {middle + 9_999}",
            "a text": f"claim_id = 'C{middle:011}'",
            "three columns": f"day >= '2025-11-01' AND member_id < {middle // 50} AND NOT paid_amount IS NULL",
        }
        for name, predicate in predicates.items():
            body = {"predicateHints": [predicate]}
            [once] = server.fetch(f"{path}/query", body)
            runs = server.fetch(f"{path}/query", body, 10 if bench.quick else 30)
            first, total, matching = median(runs, "first_seconds"), median(runs, "total_seconds"), runs[0]["lines"] - 2
            slowest = max(slowest, first)
            each = f"{(total - first) / matching * 1e6:.2f} µs" if matching > 1_000 else "–"
            rows.append([f"{files:,}, {name}", f"{matching:,}", ms(once["first_seconds"]), ms(first), ms(total), each])
        kept = (server.metric("weir_snapshot_cache_bytes") - before) / files
        rows.append([f"{files:,}, columns kept", f"{kept:,.0f} bytes a file", "", "", "", ""])
        figures["selective"] = (slowest * 1e3, f"{ms(slowest)}, the slowest of {len(predicates)}{at(files)}")
    server.stop()
    columns = ["files, predicate", "files that match", "first time, first byte", "first byte", "last byte", "a matching file after the first byte"]
    return Section("Selective query", SELECTIVE, [Table(columns, rows)], figures)


SELECTIVE = """\
A predicate hint on a warm table. The first query that names a column reads it from the statistics of every file; later ones
use what was kept."""


def pages(bench):
    """Pages of a thousand files."""
    rows = []
    server = Server(bench, "pages", bench.local())
    n_pages = 10 if bench.quick else 50
    for files in bench.sizes:
        path = server.share(bench.table(files))
        first_of_all = walk(server, path, 1)[0]
        first = sorted(walk(server, path, 1)[0] for _ in range(9))[4]
        later = sorted(walk(server, path, n_pages)[1:])
        middle = ms(later[len(later) // 2]) if later else "–"
        worst = ms(later[-1]) if later else "–"
        rows.append([f"{files:,}", ms(first_of_all), ms(first), middle, worst, f"{len(later) + 1} of {-(-files // PAGE)}"])
    server.stop()
    columns = ["files", "first page, cold", "first page, warm", "later page", "slowest later page", "pages asked for"]
    return Section("Paged query", "Pages of 1,000 files (`maxFiles`), each to its last byte, over one connection.", [Table(columns, rows)])


PAGE = 1_000


def walk(server, path, n_pages):
    """Seconds that each page took."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    times, body = [], {"maxFiles": PAGE}
    for _ in range(n_pages):
        begun = time.perf_counter()
        connection.request("POST", f"{path}/query", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        times.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {text[:500]}")
        token = json.loads(text.splitlines()[-1]).get("endStreamAction", {}).get("nextPageToken")
        if token is None:
            break
        body = {"maxFiles": PAGE, "pageToken": token}
    connection.close()
    return times


def incremental(bench):
    """The first query after a commit."""
    rows, figures = [], {}
    server = Server(bench, "incremental", bench.local())
    for files in bench.sizes:
        table = bench.copy_of(bench.table(files))
        path = f"{server.share(table)}/query"
        server.fetch(path, {}, first_byte_only=True)
        server.fetch(path, {}, 5, first_byte_only=True)
        misses = server.metric("weir_snapshot_cache_misses_total")
        after, warm = [], []
        for number in range(5 if bench.quick else 21):
            bench.run("generate", bench.lake / table, "--commit", files + number)
            after += server.fetch(path, {}, first_byte_only=True)
            warm += server.fetch(path, {}, first_byte_only=True)
        replays = server.metric("weir_snapshot_cache_misses_total") - misses
        new, known = median(after, "first_seconds"), median(warm, "first_seconds")
        slowest = max(run["first_seconds"] for run in after)
        rows.append([f"{files:,}", ms(known), ms(new), f"{new / known:.2f}", ms(slowest), f"{replays:.0f} in {len(after)}"])
        # A replay is as good as a missed target.
        ratio = new / known if replays == 0 else float("inf")
        figures["incremental"] = (ratio, f"{new / known:.2f}, {replays:.0f} replays{at(files)}")
    server.stop()
    columns = ["files", "warm, first byte", "after a commit, first byte", "ratio", "slowest", "replays"]
    return Section("Query after one new commit", INCREMENTAL, [Table(columns, rows)], figures)


INCREMENTAL = """\
One commit of one file, then the first byte of a full query, again and again; warm queries in between. A replay is a
snapshot that was loaded anew instead of advanced."""


def shapes(bench):
    """Wide tables, and logs without a checkpoint."""
    few, many = (1_000, 100) if bench.quick else (100_000, 10_000)
    logs = [
        (f"{few:,} files, 50 columns, checkpoint", few, ("--wide",)),
        (f"{few:,} files in 10 commits, no checkpoint", few, ("--commits", 10)),
        (f"{many:,} files in {many // 10:,} commits, no checkpoint", many, ("--commits", many // 10)),
    ]
    rows = []
    server = Server(bench, "shapes", bench.local())
    for name, files, options in logs:
        table = bench.table(files, *options)
        decode = bench.yardsticks(table)["decode_seconds"] if "--wide" in options else None
        path = server.share(table)
        runs, _, peak = cold(bench, server, path, files)
        cached = server.metric("weir_snapshot_cache_bytes") / files
        begun = server.processor()
        warm = server.query(path, files, warm_runs(bench, files * 4))
        spent = (server.processor() - begun) / len(warm) / files
        first, total, warm_first, warm_total = (
            median(answers, key) for answers in (runs, warm) for key in ("first_seconds", "total_seconds")
        )
        rows.append([
            name, ms(decode) if decode else "–", ms(first), f"{first / decode:.2f}" if decode else "–", ms(total), mb(peak),
            ms(warm_first), ms(warm_total), f"{spent * 1e6:.1f} µs", f"{warm[0]['bytes'] / files:,.0f}", f"{cached:,.0f}",
        ])
    server.stop()
    columns = ["log", "decoding `add`", "cold, first byte", "ratio", "cold, last byte", "cold, peak memory", "warm, first byte", "warm, last byte", "CPU a file", "bytes a file", "cached bytes a file"]
    return Section("Other logs", SHAPES, [Table(columns, rows)])


SHAPES = """\
A wide table has 50 columns, of which 32 have statistics, about 2.4 KB a file. A log without a checkpoint is read commit by
commit. Local storage."""
