"""Spark with the Delta Sharing connector on tables with a past: versions, change data, pages, against direct reads."""

import contextlib

import lake
import pytest
import rows
from test_pandas_past import iso, readable_in
from test_spark import FORMATS

EVERY = [(table, response_format) for table in lake.PAST for response_format in FORMATS if readable_in(response_format, table)]


def reader(spark, response_format, **options):
    return spark.read.format("deltaSharing").option("responseFormat", response_format).options(**options)


@contextlib.contextmanager
def configured(spark, **settings):
    """Settings under `spark.delta.sharing.`, with `_` for a dot, for as long as they are needed."""
    names = {f"spark.delta.sharing.{name.replace('_', '.')}": value for name, value in settings.items()}
    for name, value in names.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name in names:
            spark.conf.unset(name)


@pytest.mark.parametrize("table, response_format", EVERY)
def test_a_version_and_a_time_arrive(spark, on_sqlite, tables, table, response_format):
    """One version, and not the newest where there are more: the pandas client reads them all."""
    url = on_sqlite.table_url(on_sqlite.share_history(f"file://{tables}/{table}"))
    version = lake.PAST[table] // 2
    direct = rows.of_delta(str(tables / table), version=version)
    assert rows.of_spark(reader(spark, response_format, versionAsOf=version).load(url)) == direct
    by_time = reader(spark, response_format, timestampAsOf=iso(lake.committed_at(version))).load(url)
    assert rows.of_spark(by_time) == direct


def assert_changes_equal(spark, server, location, response_format, **asked):
    """Against Spark's own reader of the change data feed, for which the connector has other columns in parquet format."""
    asked["readChangeFeed"] = "true"
    shared = reader(spark, response_format, **asked).load(server.table_url(server.share_history(f"file://{location}")))
    direct = spark.read.format("delta").options(**asked).load(str(location))
    assert sorted(shared.columns) == sorted(direct.columns)
    at = "timestamp_millis(_commit_timestamp) AS _commit_timestamp" if response_format == "parquet" else "_commit_timestamp"
    columns = [at if column == "_commit_timestamp" else column for column in direct.columns]
    assert rows.of_spark(shared.selectExpr(columns)) == rows.of_spark(direct)


# Spark's own change data feed demands that all versions have the newest's schema.
FED = ["changing", "changing_partitions", "deletion_vectors", "v2_checkpoint", "changing_times"]


@pytest.mark.parametrize("table, response_format", [(table, f) for table, f in EVERY if table in FED])
def test_the_change_data_feed_arrives(spark, on_sqlite, tables, table, response_format):
    assert_changes_equal(spark, on_sqlite, tables / table, response_format, startingVersion=1)


@pytest.mark.parametrize("response_format", FORMATS)
def test_a_part_of_the_change_data_feed_arrives(spark, on_sqlite, tables, response_format):
    assert_changes_equal(spark, on_sqlite, tables / "changing", response_format, startingVersion=0, endingVersion=2)
    # Spark's own reader takes times as written in the session's zone, which is UTC.
    begin, end = (f"{lake.committed_at(version):%Y-%m-%d %H:%M:%S}" for version in (1, 3))
    assert_changes_equal(spark, on_sqlite, tables / "changing", response_format, startingTimestamp=begin, endingTimestamp=end)


@pytest.mark.parametrize("response_format", FORMATS)
def test_pages_add_up_to_the_table(spark, on_sqlite, tables, response_format):
    table = on_sqlite.share_history(f"file://{tables}/several_commits")
    location, url = str(tables / "several_commits"), on_sqlite.table_url(table)
    with configured(spark, queryPagination_enabled="true", maxFilesPerQueryRequest="1"):
        before = len(on_sqlite.audit("table.query", table))
        assert rows.of_spark(reader(spark, response_format).load(url)) == rows.of_delta(location)
        # Three files, one a page.
        pages = on_sqlite.audit("table.query", table)[before:]
        assert [event["files"] for event in pages] == [1, 1, 1]
        matching = reader(spark, response_format).load(url).where("id >= 150 AND id % 2 = 0")
        assert rows.of_spark(matching) == rows.of_delta(location, where="id >= 150 AND id % 2 = 0")
        assert reader(spark, response_format).load(url).limit(120).count() == 120
        assert rows.of_spark(reader(spark, response_format, versionAsOf=1).load(url)) == rows.of_delta(location, version=1)


@pytest.mark.parametrize("response_format", FORMATS)
def test_pages_add_up_to_the_change_data_feed(spark, on_sqlite, tables, response_format):
    table = on_sqlite.share_history(f"file://{tables}/changing_partitions")
    before = len(on_sqlite.audit("table.changes", table))
    with configured(spark, queryPagination_enabled="true", maxFilesPerQueryRequest="2"):
        assert_changes_equal(spark, on_sqlite, tables / "changing_partitions", response_format, startingVersion=0)
    pages = [event["files"] for event in on_sqlite.audit("table.changes", table)[before:]]
    assert len(pages) > 2 and max(pages) == 2


def test_pages_of_deletion_vectors_and_mapped_columns_add_up(spark, on_sqlite, tables):
    with configured(spark, queryPagination_enabled="true", maxFilesPerQueryRequest="1"):
        for table in ("deletion_vectors", "mapped_by_name", "mapped_by_id"):
            url = on_sqlite.table_url(on_sqlite.share_history(f"file://{tables}/{table}"))
            assert rows.of_spark(reader(spark, "delta").load(url)) == rows.of_delta(str(tables / table))


@pytest.mark.parametrize("response_format", FORMATS)
def test_filters_and_limits_reach_the_server(spark, on_sqlite, tables, response_format):
    """Three files of a hundred rows each, in the order of their ids: what is not needed is not handed out."""
    table = on_sqlite.share_history(f"file://{tables}/several_commits")
    frame = reader(spark, response_format).load(on_sqlite.table_url(table))
    for narrowed, n_rows in ((frame.where("id >= 250"), 50), (frame.limit(50), 50)):
        before = len(on_sqlite.audit("table.query", table))
        assert len(narrowed.collect()) == n_rows
        assert [event["files"] for event in on_sqlite.audit("table.query", table)[before:]] == [1]
