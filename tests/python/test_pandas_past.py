"""The pandas client on tables with a past: versions, times, predicates, and the change data feed, against direct reads."""

import datetime
import json

import delta_sharing
import lake
import pytest
import requests
import rows
from test_pandas import FORMATS, read

# What a client that asked for a table's whole past is told of it.
CHANGES = {"parquet": None, "delta": True}


def readable_in(response_format, table):
    """Whether `response_format` can carry every version of `table`."""
    return response_format != "parquet" or table not in lake.NEED_DELTA_FORMAT


def iso(moment):
    return moment.isoformat().replace("+00:00", "Z")


VERSIONS = [
    (table, version, response_format)
    for table, newest in lake.PAST.items()
    for version in range(newest + 1)
    for response_format in FORMATS
    if readable_in(response_format, table)
]


@pytest.mark.parametrize("table, version, response_format", VERSIONS)
def test_every_version_arrives(server, tables, table, version, response_format):
    shared = server.share_history(f"file://{tables}/{table}")
    direct = rows.of_delta(str(tables / table), version=version)
    assert rows.of_pandas(read(server, shared, response_format, version=version)) == direct
    assert rows.of_pandas(read(server, shared, response_format, version=version, convert_in_batches=True)) == direct


@pytest.mark.parametrize("table, version, response_format", VERSIONS)
def test_a_time_means_the_version_that_stood_then(server, tables, table, version, response_format):
    shared = server.share_history(f"file://{tables}/{table}")
    direct = rows.of_delta(str(tables / table), version=version)
    moments = [lake.committed_at(version)]
    if version < lake.PAST[table]:
        moments.append(lake.committed_at(version + 1) - datetime.timedelta(seconds=1))
    for moment in moments:
        assert rows.of_pandas(read(server, shared, response_format, timestamp=iso(moment))) == direct


@pytest.mark.parametrize("table", lake.PAST)
def test_the_version_since_a_time_is_the_first_commit_at_it_or_later(server, tables, table):
    url = server.table_url(server.share_history(f"file://{tables}/{table}"))
    assert delta_sharing.get_table_version(url) == lake.PAST[table]
    for version in range(lake.PAST[table] + 1):
        at = lake.committed_at(version)
        assert delta_sharing.get_table_version(url, iso(at)) == version
        assert delta_sharing.get_table_version(url, iso(at - datetime.timedelta(hours=1))) == version


@pytest.mark.parametrize("response_format", FORMATS)
@pytest.mark.parametrize("table", lake.PAST)
def test_a_limit_is_kept_on_every_kind_of_table(server, tables, table, response_format):
    if not readable_in(response_format, table):
        pytest.skip("not here: a table that only the delta format can carry")
    shared = server.share_history(f"file://{tables}/{table}")
    columns, direct = rows.of_delta(str(tables / table))
    for limit in (0, 1, 12, 1000):
        for batches in (False, True):
            found = rows.of_pandas(read(server, shared, response_format, limit=limit, convert_in_batches=batches))
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
    ("part = 'p 1'", comparison("equal", "part", "p 1", "string")),
    ("part = 'low'", comparison("equal", "part", "low", "string")),
    ("part IS NULL", {"op": "isNull", "children": [{"op": "column", "name": "part", "valueType": "string"}]}),
]


@pytest.mark.parametrize("response_format", FORMATS)
@pytest.mark.parametrize("table", lake.PAST)
def test_predicate_hints_never_lose_a_matching_row(server, tables, table, response_format):
    """Hints choose files, not rows: the client's answer may hold more rows, and never fewer."""
    if not readable_in(response_format, table):
        pytest.skip("not here: a table that only the delta format can carry")
    shared = server.share_history(f"file://{tables}/{table}")
    columns, whole = rows.of_delta(str(tables / table))
    for where, hint in PREDICATES + (OF_PARTITIONS if "part" in columns else []):
        matching = rows.of_delta(str(tables / table), where=where)
        hints = json.dumps(hint)
        found = rows.of_pandas(read(server, shared, response_format, jsonPredicateHints=hints))
        assert found[0] == columns
        assert matching[1] <= found[1] <= whole, where
    for hint in ("", "{", json.dumps({"op": "unheard"}), json.dumps(comparison("equal", "nowhere", "1", "long"))):
        assert rows.of_pandas(read(server, shared, response_format, jsonPredicateHints=hint)) == (columns, whole)


def changes_of(server, shared, response_format, **range):
    """The change data feed as the client reads it, and the times it gives to the commits."""
    frame = delta_sharing.load_table_changes_as_pandas(server.table_url(shared), use_delta_format=CHANGES[response_format], **range)
    moments = frame.pop("_commit_timestamp")
    times = {}
    for version, moment in zip(frame["_commit_version"], moments):
        moment = datetime.datetime.fromtimestamp(moment / 1000, lake.UTC) if isinstance(moment, int) else moment.to_pydatetime()
        times[int(version)] = moment if moment.tzinfo else moment.replace(tzinfo=lake.UTC)
    return rows.of_pandas(frame), times
