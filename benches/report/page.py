"""The page: targets first, then one section for each subject, as Markdown."""

import dataclasses
import statistics
import typing


@dataclasses.dataclass
class Target:
    """One of the targets, and how a figure is held against it."""

    key: str
    work: str
    yardstick: str
    target: str
    is_met: typing.Callable[[float], bool]


DECODE = "the `parquet` crate decoding the checkpoint's `add` column, one thread"
LEAST = "the same HTTP stack, one prepared look-up and one batched insert a request"
TARGETS = [
    Target("cold_first", "cold full query, 1,000,000 files, to the first byte", DECODE, "≤ 2.0", lambda x: x <= 2),
    Target("cold_total", "the same, to the last byte", "the same", "≤ 3.0", lambda x: x <= 3),
    Target("warm_cpu", "warm full query, local or S3-signed, CPU time a file", "SHA-256 of one KiB", "≤ 4", lambda x: x <= 4),
    Target("warm_first", "warm first byte, 1,000,000 files", "–", "≤ 10 ms", lambda x: x <= 10),
    Target("selective", "selective query, 1,000,000 files, warm, to the first byte", "–", "≤ 25 ms", lambda x: x <= 25),
    Target("incremental", "query after one new commit, 1,000,000 files, to the first byte", "the warm query's", "≤ 2, no replay", lambda x: x <= 2),
    Target("resident", "resident bytes a cached file with statistics", "–", "≤ 600", lambda x: x <= 600),
    Target("streaming", "memory while streaming, beyond the cache", "–", "≤ 64 MB", lambda x: x <= 64),
    Target("version_rate", "`/version` with durable audit on PostgreSQL, throughput", LEAST, "≥ 0.6", lambda x: x >= 0.6),
    Target("version_p99", "the same, p99 at half of saturation", "–", "≤ 20 ms", lambda x: x <= 20),
    Target("query_rate", "10-file `/query`, the same set-up, throughput", LEAST, "≥ 0.35", lambda x: x >= 0.35),
]


@dataclasses.dataclass
class Table:
    columns: list
    rows: list


@dataclasses.dataclass
class Section:
    """What was measured of one subject. `figures` are held against the targets: key to value and what is shown."""

    title: str
    text: str
    tables: list
    figures: dict = dataclasses.field(default_factory=dict)


def page(facts, sections, notes):
    parts = ["# Benchmarks", INTRODUCTION, "\n".join(f"- {fact}" for fact in facts)]
    figures = {key: figure for section in sections for key, figure in section.figures.items()}
    rows = []
    for target in TARGETS:
        value, shown = figures.get(target.key, (None, "not measured"))
        met = "–" if value is None else "yes" if target.is_met(value) else "**no**"
        rows.append([target.work, target.yardstick, target.target, shown, met])
    parts += ["## Targets", markdown(Table(["work", "yardstick", "target", "measured", "met"], rows))]
    for section in sections:
        parts += [f"## {section.title}", section.text, *map(markdown, section.tables)]
    return "\n\n".join([*parts, notes.strip()]) + "\n"


INTRODUCTION = """\
Written by `make bench`, which builds the release binary, makes the tables, runs everything and writes this page; what is
under [Notes](#notes) is kept by hand in `benches/notes.md`. `make bench BENCH=--quick` takes three minutes at small sizes,
`make bench BENCH="--only version query"` measures some subjects, and both write their page to `target/bench` instead.
Nothing is taken from another run: each figure and its yardstick are of the same one. Figures are medians unless they say
otherwise; MB are 10⁶ bytes."""


def markdown(table):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    # The first column says what the others are of.
    rule = "|---|" + "---:|" * (len(table.columns) - 1) if len(table.rows) and "met" not in table.columns else "|" + "---|" * len(table.columns)
    return "\n".join([line(table.columns), rule, *map(line, table.rows)])


def median(answers, key):
    return statistics.median(answer[key] for answer in answers)


def ms(seconds):
    return f"{seconds * 1e3:,.1f} ms" if seconds < 0.995 else f"{seconds:.2f} s"


def mb(size):
    return f"{size / 1e6:,.1f} MB" if abs(size) < 10e6 else f"{size / 1e6:,.0f} MB"


def at(files):
    """Says that a figure is not of a million files, where it is not."""
    return "" if files == 1_000_000 else f" (at {files:,} files)"
