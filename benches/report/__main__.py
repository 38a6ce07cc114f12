"""Runs the benchmarks and writes docs/benchmarks.md: see `make bench`."""

import argparse
import dataclasses
import datetime
import functools
import json
import os
import pathlib
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import governed
import large
import small
from bench import Bench, Failed
from page import page
from postgres import Postgres

HERE = pathlib.Path(__file__).resolve().parent
LARGE = {measure.__name__: measure for measure in (large.full, large.selective, large.pages, large.incremental, large.shapes, governed.governed)}
SMALL = {measure.__name__: measure for measure in (small.version, small.query, small.audit, small.listing, small.clients)}


def main():
    arguments = read_arguments()
    # A stop signal ends what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        bench = postgres = None
        try:
            bench = Bench(pathlib.Path(folder), arguments)
            postgres = Postgres()
            write(bench, postgres, arguments)
        except Failed as failed:
            raise SystemExit(f"make bench: {failed}") from None
        finally:
            if bench:
                bench.stop_all()
            if postgres:
                postgres.drop_all()


def read_arguments():
    sizes = "1_000,10_000" if "--quick" in sys.argv else "1_000,10_000,100_000,1_000_000"
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and short runs: whether everything works")
    parser.add_argument("--only", nargs="+", choices=[*LARGE, *SMALL], help="some subjects alone")
    parser.add_argument("--files", default=os.environ.get("BENCH_FILES") or sizes, help="sizes of tables; also BENCH_FILES")
    parser.add_argument("--output", type=pathlib.Path, help="where the page goes: docs/benchmarks.md if everything is measured")
    arguments = parser.parse_args()
    arguments.is_whole = not (arguments.quick or arguments.only) and arguments.files == sizes
    arguments.files = sorted(int(size) for size in arguments.files.split(","))
    return arguments


def write(bench, postgres, arguments):
    begun = time.monotonic()
    facts = [*machine(bench), *versions(bench, postgres)]
    sections = []
    for name, measure in [*LARGE.items(), *((name, functools.partial(measure, postgres=postgres)) for name, measure in SMALL.items())]:
        if arguments.only and name not in arguments.only:
            continue
        started = time.monotonic()
        print(f"{name} …", end=" ", flush=True)
        sections.append((name, measure(bench)))
        print(f"{time.monotonic() - started:.0f} s", flush=True)
    sections = [(name, section) for name, section in sections if section]
    facts.append(f"took {(time.monotonic() - begun) / 60:.0f} minutes: `{command(arguments)}`")
    results = bench.built.parent / "bench"
    results.mkdir(exist_ok=True)
    output = arguments.output or (HERE.parents[1] / "docs" if arguments.is_whole else results) / "benchmarks.md"
    notes = (HERE.parent / "notes.md").read_text()
    output.write_text(page(facts, [section for _, section in sections], notes))
    kept = {"facts": facts, "sections": {name: dataclasses.asdict(section) for name, section in sections}}
    (results / "results.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False))
    print(f"written: {output}")


def command(arguments):
    parts = (["--quick"] if arguments.quick else []) + (["--only", *arguments.only] if arguments.only else [])
    sizes = [] if arguments.is_whole or arguments.quick else [f"BENCH_FILES={','.join(map(str, arguments.files))}"]
    return " ".join([*sizes, "make bench", *([f'BENCH="{" ".join(parts)}"'] if parts else [])])


def machine(bench):
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)[1])
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    return [
        f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores, {memory / 2**20:.0f} GiB, Linux {platform.release()}",
        f"{datetime.date.today()}; load average at the start {load}; writing 8 KiB durably takes {durable_write(bench.folder) * 1e3:.2f} ms (median)",
    ]


def durable_write(folder):
    times = []
    with open(folder / "durable", "wb") as file:
        for _ in range(101):
            begun = time.perf_counter()
            file.write(bytes(8192))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def versions(bench, postgres):
    def told(*words):
        ended = subprocess.run(words, capture_output=True, text=True, cwd=HERE.parents[1])
        return ended.stdout.strip()

    commit = told("git", "rev-parse", "--short", "HEAD") or "unknown"
    changed = " with changes" if told("git", "status", "--porcelain", "--", "src", "Cargo.lock") else ""
    settings = ", ".join(postgres.settings().splitlines())
    return [
        f"{told(bench.weir, '--version')}, commit {commit}{changed}; {told('rustc', '--version')}; PostgreSQL {postgres.version()} ({settings})",
    ]


if __name__ == "__main__":
    main()
