"""The pandas client on tables with a past: versions, times, predicates, and the change data feed, against direct reads."""

import collections
import datetime
import json

import delta_sharing
import lake
import pytest
import requests
import rows
from test_pandas import FORMATS, read


def readable_in(response_format, table):
    """Whether `response_format` can carry every version of `table`."""
    return response_format != "parquet" or table not in lake.NEED_DELTA_FORMAT


def iso(moment):
    return moment.isoformat().replace("+00:00", "Z")


EVERY = [(table, response_format) for table in lake.PAST for response_format in FORMATS if readable_in(response_format, table)]
VERSIONS = [(table, version, response_format) for table, response_format in EVERY for version in range(lake.PAST[table] + 1)]


@pytest.mark.parametrize("table, version, response_format", VERSIONS)
def test_every_version_arrives(on_sqlite, tables, table, version, response_format):
    shared = on_sqlite.share_history(f"file://{tables}/{table}")
    direct = rows.of_delta(str(tables / table), version=version)
    for batches in (False, True):
        assert rows.of_pandas(read(on_sqlite, shared, response_format, version=version, convert_in_batches=batches)) == direct


@pytest.mark.parametrize("table, version, response_format", VERSIONS)
def test_a_time_means_the_version_that_stood_then(on_sqlite, tables, table, version, response_format):
    shared = on_sqlite.share_history(f"file://{tables}/{table}")
    direct = rows.of_delta(str(tables / table), version=version)
    moments = [lake.committed_at(version)]
    if version < lake.PAST[table]:
        moments.append(lake.committed_at(version + 1) - datetime.timedelta(seconds=1))
    for moment in moments:
        assert rows.of_pandas(read(on_sqlite, shared, response_format, timestamp=iso(moment))) == direct


@pytest.mark.parametrize("table", lake.PAST)
def test_the_version_since_a_time_is_the_first_commit_at_it_or_later(on_sqlite, tables, table):
    url = on_sqlite.table_url(on_sqlite.share_history(f"file://{tables}/{table}"))
    assert delta_sharing.get_table_version(url) == lake.PAST[table]
    for version in range(lake.PAST[table] + 1):
        at = lake.committed_at(version)
        assert delta_sharing.get_table_version(url, iso(at)) == version
        assert delta_sharing.get_table_version(url, iso(at - datetime.timedelta(hours=1))) == version


@pytest.mark.parametrize("table, response_format", EVERY)
def test_a_limit_is_kept_on_every_kind_of_table(on_sqlite, tables, table, response_format):
    shared = on_sqlite.share_history(f"file://{tables}/{table}")
    columns, direct = rows.of_delta(str(tables / table))
    for limit in (0, 1, 12, 1000):
        for batches in (False, True):
            found = rows.of_pandas(read(on_sqlite, shared, response_format, limit=limit, convert_in_batches=batches))
            assert found[0] == columns
            assert found[1].total() == min(limit, direct.total())
            assert found[1] <= direct


def comparison(op, column, value, type):
    return {"op": op, "children": [{"op": "column", "name": column, "valueType": type}, {"op": "literal", "value": value, "valueType": type}]}


PREDICATES = [
    ("id >= 18", comparison("greaterThanOrEqual", "id", "18", "long")),
    ("id = 14", comparison("equal", "id", "14", "long")),
    ("NOT id < 12", {"op": "not", "children": [comparison("lessThan", "id", "12", "long")]}),
    ("id < 0", comparison("lessThan", "id", "0", "long")),
    (
        "id < 2 OR id > 20",
        {"op": "or", "children": [comparison("lessThan", "id", "2", "long"), comparison("greaterThan", "id", "20", "long")]},
    ),
]
OF_PARTITIONS = [
    ("part = 'p1'", comparison("equal", "part", "p1", "string")),
    ("part = 'low'", comparison("equal", "part", "low", "string")),
    ("part IS NULL", {"op": "isNull", "children": [{"op": "column", "name": "part", "valueType": "string"}]}),
]


@pytest.mark.parametrize("table, response_format", EVERY)
def test_predicate_hints_never_lose_a_matching_row(on_sqlite, tables, table, response_format):
    """Hints choose files, not rows: the client's answer may hold more rows, and never fewer."""
    shared = on_sqlite.share_history(f"file://{tables}/{table}")
    columns, whole = rows.of_delta(str(tables / table))
    for where, hint in PREDICATES + (OF_PARTITIONS if "part" in columns else []):
        matching = rows.of_delta(str(tables / table), where=where)
        hints = json.dumps(hint)
        found = rows.of_pandas(read(on_sqlite, shared, response_format, jsonPredicateHints=hints))
        assert found[0] == columns
        assert matching[1] <= found[1] <= whole, where
    for hint in ("", "{", json.dumps({"op": "unheard"}), json.dumps(comparison("equal", "nowhere", "1", "long"))):
        assert rows.of_pandas(read(on_sqlite, shared, response_format, jsonPredicateHints=hint)) == (columns, whole)


@pytest.mark.parametrize("response_format", FORMATS)
def test_predicate_hints_spare_files(on_sqlite, tables, response_format):
    """Three files of a hundred rows each, of which one may match."""
    shared = on_sqlite.share_history(f"file://{tables}/several_commits")
    hints = json.dumps(comparison("greaterThanOrEqual", "id", "250", "long"))
    assert sorted(read(on_sqlite, shared, response_format, jsonPredicateHints=hints)["id"]) == list(range(200, 300))


def changes_of(server, shared, response_format, **asked):
    """The change data feed as the client reads it, and the time it gives to each commit."""
    use_delta_format = True if response_format == "delta" else None
    frame = delta_sharing.load_table_changes_as_pandas(server.table_url(shared), use_delta_format=use_delta_format, **asked)
    times = {}
    for version, moment in zip(frame["_commit_version"], frame.pop("_commit_timestamp")):
        # Milliseconds in parquet format, a timestamp in delta.
        moment = moment.to_pydatetime() if hasattr(moment, "to_pydatetime") else datetime.datetime.fromtimestamp(moment / 1000, lake.UTC)
        times[int(version)] = moment if moment.tzinfo else moment.replace(tzinfo=lake.UTC)
    return rows.of_pandas(frame), times


def assert_changes_equal(server, tables, table, response_format, direct, first, last):
    """By versions, by times that name the commits exactly, and by times around them."""
    shared = server.share_history(f"file://{tables}/{table}")
    hour = datetime.timedelta(hours=1)
    begin, end = lake.committed_at(first), lake.committed_at(last)
    for asked in (
        {"starting_version": first, "ending_version": last},
        {"starting_timestamp": iso(begin), "ending_timestamp": iso(end)},
        {"starting_timestamp": iso(begin - hour if first else begin), "ending_timestamp": iso(end + hour)},
    ):
        found, times = changes_of(server, shared, response_format, **asked)
        assert found == direct
        assert times == {version: lake.committed_at(version) for version in times}
    if last == lake.PAST[table]:
        assert changes_of(server, shared, response_format, starting_version=first)[0] == direct


# Whose change data feed the direct reader reads; of mapped columns it reads none.
FED = ["changing", "changing_partitions", "deletion_vectors", "v2_checkpoint", "always_empty"]
RANGES = [
    (table, first, last, response_format)
    for table in FED
    for first in range(lake.PAST[table] + 1)
    for last in {first, lake.PAST[table]}
    for response_format in ("parquet", "delta")
    if readable_in(response_format, table)
]


@pytest.mark.parametrize("table, first, last, response_format", RANGES)
def test_changes_arrive(on_sqlite, tables, table, first, last, response_format):
    direct = rows.of_changes(str(tables / table), first, last)
    assert_changes_equal(on_sqlite, tables, table, response_format, direct, first, last)


@pytest.mark.parametrize("first, last", [(0, 0), (0, 1), (1, 1), (3, 3)])
@pytest.mark.parametrize("table", ["mapped_by_name", "mapped_by_id"])
def test_changes_of_mapped_columns_arrive(on_sqlite, tables, table, first, last):
    """Every commit of these tables only inserts, so that direct reads of their versions tell what it did."""
    columns, changes = None, collections.Counter()
    for version in range(first, last + 1):
        columns, after = rows.of_delta(str(tables / table), version=version)
        before = rows.of_delta(str(tables / table), version=version - 1)[1] if version else collections.Counter()
        changes.update({(*row, "insert", version): count for row, count in (after - before).items()})
    direct = ([*columns, "_change_type", "_commit_version"], changes)
    assert_changes_equal(on_sqlite, tables, table, "delta", direct, first, last)


def test_changes_the_client_cannot_read_are_refused_with_the_reason(on_sqlite, tables):
    """The client does not declare `timestampNtz` when it asks for changes, and never a delta feature in parquet format."""
    for table, response_format, feature in [
        ("changing_times", "delta", "timestampNtz"),
        ("changing_times", "parquet", "timestampNtz"),
        ("deletion_vectors", "parquet", "deletionVectors"),
        ("mapped_by_id", "parquet", "columnMapping"),
    ]:
        shared = on_sqlite.share_history(f"file://{tables}/{table}")
        with pytest.raises(requests.HTTPError) as refusal:
            changes_of(on_sqlite, shared, response_format, starting_version=0)
        assert refusal.value.response.status_code == 400
        assert "Unsupported Delta Table Properties" in refusal.value.response.text
        assert feature in refusal.value.response.text


@pytest.mark.parametrize("response_format", ("parquet", "delta"))
def test_postgres_answers_the_same_past(on_postgres, tables, response_format):
    shared = on_postgres.share_history(f"file://{tables}/changing")
    for version in (0, 3):
        direct = rows.of_delta(str(tables / "changing"), version=version)
        assert rows.of_pandas(read(on_postgres, shared, response_format, version=version)) == direct
    direct = rows.of_changes(str(tables / "changing"), 1, 3)
    assert_changes_equal(on_postgres, tables, "changing", response_format, direct, 1, 3)
