"""Tables the tests write themselves, so that they hold without any collection of foreign tables."""

import datetime
import decimal
import os
import pathlib

import handmade
import pyarrow
from deltalake import DeltaTable, write_deltalake

UTC = datetime.timezone.utc


def of_all_types():
    """One column of every type, over several rows with nulls."""
    moment = datetime.datetime(2024, 2, 29, 12, 30, 45, 123456)
    return pyarrow.table(
        {
            "id": pyarrow.array([1, 2, 3], pyarrow.int64()),
            "tiny": pyarrow.array([1, None, -128], pyarrow.int8()),
            "short": pyarrow.array([1, None, -32768], pyarrow.int16()),
            "int": pyarrow.array([1, None, -(2**31)], pyarrow.int32()),
            "float": pyarrow.array([1.5, None, -0.25], pyarrow.float32()),
            "double": pyarrow.array([1.1, None, -1e300], pyarrow.float64()),
            "flag": pyarrow.array([True, None, False]),
            "text": pyarrow.array(["plain", None, "line\u2028separator \"quoted\" \\ ü 😀"]),
            "bytes": pyarrow.array([b"\x00\xff", None, b""]),
            "day": pyarrow.array([moment.date(), None, datetime.date(1969, 12, 31)]),
            "instant": pyarrow.array([moment.replace(tzinfo=UTC), None, moment.replace(tzinfo=UTC)], pyarrow.timestamp("us", "UTC")),
            "amount": pyarrow.array([decimal.Decimal("1.10"), None, decimal.Decimal("-99999999.99")], pyarrow.decimal128(10, 2)),
            "list": pyarrow.array([[1, 2], None, []], pyarrow.list_(pyarrow.int64())),
            "struct": pyarrow.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
        }
    )


def partitioned():
    """Partition values that paths, URLs and JSON each treat specially, and null."""
    values = ["plain", "with space", "a/b", "50%", "a%20b", "x=y", "a+b", "q?x#y", "ü€😀", "it's \"quoted\"", "a:b", None]
    return pyarrow.table({"id": list(range(len(values))), "part": pyarrow.array(values, pyarrow.string())})


def without_time_zone():
    moments = [datetime.datetime(2024, 3, 31, 2, 30), None]
    return pyarrow.table({"id": [1, 2], "local": pyarrow.array(moments, pyarrow.timestamp("us"))})


def changing(location, partition_by=None):
    """Appends, an update, a delete and a rewrite without any change, with a change data feed."""
    def batch(start, end):
        ids = range(start, end)
        parts = [None if i % 3 == 0 else f"p{i % 3}" for i in ids]
        return pyarrow.table({"id": list(ids), "name": [f"row {i}" for i in ids], "part": pyarrow.array(parts, pyarrow.string())})

    write_deltalake(location, batch(0, 10), partition_by=partition_by, configuration={"delta.enableChangeDataFeed": "true"})
    write_deltalake(location, batch(10, 20), mode="append")
    DeltaTable(location).update(updates={"name": "'changed'"}, predicate="id = 3 OR id = 14")
    DeltaTable(location).delete("id < 5")
    write_deltalake(location, batch(20, 24), mode="append")
    DeltaTable(location).optimize.compact()


def committed_at(version):
    """When a version of a table of the past was committed: one a day."""
    return datetime.datetime(2024, 1, 1, 12, tzinfo=UTC) + datetime.timedelta(days=version)


def date_log(location):
    """Dates the commits of the table at `location` by the times of their files, to the second."""
    for commit in pathlib.Path(location, "_delta_log").glob("*.json"):
        if commit.stem.isdigit():
            moment = committed_at(int(commit.stem)).timestamp()
            os.utime(commit, (moment, moment))


def write_past(root):
    """Writes PAST under `root`, a folder: tables with several versions, whose commits are dated."""
    changing(f"{root}/changing")
    changing(f"{root}/changing_partitions", ["part"])
    handmade.deletion_vectors(f"{root}/deletion_vectors")
    handmade.mapped(f"{root}/mapped_by_name", "name")
    handmade.mapped(f"{root}/mapped_by_id", "id")
    handmade.v2_checkpoint(f"{root}/v2_checkpoint")
    local = without_time_zone()
    write_deltalake(f"{root}/changing_times", local, configuration={"delta.enableChangeDataFeed": "true"})
    write_deltalake(f"{root}/changing_times", local, mode="append")
    DeltaTable.create(
        f"{root}/always_empty",
        schema=pyarrow.schema([("id", pyarrow.int64()), ("name", pyarrow.string())]),
        configuration={"delta.enableChangeDataFeed": "true"},
    )
    for table in PAST:
        date_log(f"{root}/{table}")


def write(root):
    """Writes TABLES and PAST under `root`, a folder."""
    write_past(root)
    write_deltalake(f"{root}/all_types", of_all_types())
    write_deltalake(f"{root}/partitioned", partitioned(), partition_by=["part"])
    write_deltalake(f"{root}/without_time_zone", without_time_zone())
    DeltaTable.create(f"{root}/empty", schema=pyarrow.schema([("id", pyarrow.int64()), ("name", pyarrow.string())]))
    for start in range(0, 300, 100):
        ids = range(start, start + 100)
        batch = pyarrow.table({"id": list(ids), "square": [i * i for i in ids]})
        write_deltalake(f"{root}/several_commits", batch, mode="append")


TABLES = ["all_types", "partitioned", "without_time_zone", "empty", "several_commits"]
# Tables with several versions, and the newest of each.
PAST = {
    "changing": 5,
    "changing_partitions": 5,
    "deletion_vectors": 3,
    "mapped_by_name": 3,
    "mapped_by_id": 3,
    "v2_checkpoint": 4,
    "changing_times": 1,
    "always_empty": 0,
}
# Tables with features only the delta response format can carry. The parquet format would need their rows rewritten.
NEED_DELTA_FORMAT = {"without_time_zone", "deletion_vectors", "mapped_by_name", "mapped_by_id", "changing_times"}
