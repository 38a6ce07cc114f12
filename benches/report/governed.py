"""What a view costs its readers beside the raw table. Needs pyarrow, which writes the files."""

import json
import statistics
import time

from bench import Failed
from page import Section, Table, ms
from server import Server

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:
    pyarrow = None

PLANS = ["HMO", "PPO", "EPO", "POS"]
COLUMNS = [
    {"name": "claim", "from": "id"},
    {"name": "member", "mask": {"hash": {"domain": "member"}}},
    {"name": "plan"},
    {"name": "paid"},
    {"name": "zip3", "from": "zip", "mask": "zip3"},
]
ROW_FILTER = "plan IN recipient_list('plans')"


def governed(bench):
    """A warm query of a view beside one of its table, the query after a commit, a preview."""
    if pyarrow is None:
        return Section("Governed query", "Not measured: pyarrow is not there (`make setup` installs it).", [])
    files, rows = (50, 500) if bench.quick else (1_000, 1_000)
    large, small = DataTable(bench.lake / "governed-large", rows), DataTable(bench.lake / "governed-small", rows)
    large.commit(files)
    small.commit(1)
    copies = bench.folder / "copies"
    copies.mkdir()
    views = f'[views]\nroot = "file://{copies}"\n'
    server = GovernedServer(bench, "governed", bench.local(), extra=views, properties={"plans": ["HMO", "PPO"]})
    for name in ["large", "small"]:
        server.share_both(name)
    begun = time.perf_counter()
    server.ask("small_view")
    server.ask("large_view")
    made = time.perf_counter() - begun
    kinds = {"raw": [], "view": []}
    for _ in range(4 * bench.runs):
        for kind, times in kinds.items():
            times.append(server.ask(f"large_{kind}"))
    raw, view = (statistics.median(times) for times in kinds.values())
    after = {"large": [], "small": []}
    for _ in range(2 * bench.runs):
        for name, table in [("small", small), ("large", large)]:
            before = server.copies(f"{name}_view")
            version = table.commit(1)
            after[name].append(server.ask(f"{name}_view", {"version": version}))
            if (new := server.copies(f"{name}_view") - before) != 1:
                raise Failed(f"{new} files were made for one that was committed")
    many, few = (statistics.median(times) for times in after.values())
    previews = []
    for _ in range(bench.runs):
        begun = time.perf_counter()
        server.admin("POST", "/views/bench.large_view/preview", {"recipient": "reader", "limit": 100})
        previews.append(time.perf_counter() - begun)
    server.stop()
    return Section("Governed query", GOVERNED, [Table(["work", "time", "beside", "time", "ratio"], [
        [f"warm query of a view of {files:,} files", ms(view), "its table", ms(raw), f"{view / raw:.2f}"],
        [f"the same after a commit of one file of {rows:,} rows, which is made", ms(many), "a table of one file", ms(few), f"{many / few:.2f}"],
        [f"all {files:,} files made for the first reader", ms(made), "", "", ""],
        ["preview of 100 rows", ms(statistics.median(previews)), "", "", ""],
    ])])


GOVERNED = """\
A view with a row filter of the recipient's own, a pseudonym and a mask, whose files are made for its reader: queries to the
last byte, local storage."""


class DataTable:
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
        """Adds so many files in one commit; answers its version."""
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


class GovernedServer(Server):
    """A server of views and of the tables that they show."""

    def share_both(self, name):
        """Shares a table as it is, and a view of it."""
        self.admin("PUT", f"/tables/bench.{name}", {"location": f"{self.url}/governed-{name}"})
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
            page = self.admin("GET", f"/copies?view=bench.{view}&state=ready&max_results=1000{token}")
            total += len(page["items"])
            if "next_page_token" not in page:
                return total
            token = f"&page_token={page['next_page_token']}"

    def ask(self, name, body=None):
        """Seconds that a query takes to its last byte, whose files a server that is not ready makes first."""
        begun = time.perf_counter()
        path = f"/delta-sharing/shares/bench/schemas/a/tables/{name}/query"
        while True:
            status, text = self.call("POST", path, self.token, body or {})
            if status == 200:
                return time.perf_counter() - begun
            if status != 503:
                raise Failed(f"{path}: {status} {text.decode(errors='replace')}")
