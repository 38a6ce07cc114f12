"""Spark with the Delta Sharing connector, batch reads, against Spark's and deltalake's direct reads."""

import collection
import lake
import pytest
import rows

FORMATS = ("parquet", "delta")


def load(spark, server, location, response_format):
    table = server.share(f"file://{location}")
    return spark.read.format("deltaSharing").option("responseFormat", response_format).load(server.table_url(table))


def assert_read_equals(spark, server, location, response_format):
    shared = load(spark, server, location, response_format)
    direct = spark.read.format("delta").load(str(location))
    assert shared.schema.simpleString() == direct.schema.simpleString()
    assert rows.of_spark(shared) == rows.of_spark(direct)
    assert shared.count() == direct.count()


def formats_of(tables, need_delta_format):
    return [(table, f) for table in tables for f in FORMATS if f == "delta" or table not in need_delta_format]


@pytest.mark.parametrize("table, response_format", formats_of(lake.TABLES, lake.NEED_DELTA_FORMAT))
def test_every_row_arrives(spark, on_sqlite, tables, table, response_format):
    assert_read_equals(spark, on_sqlite, tables / table, response_format)


@pytest.mark.parametrize("table, response_format", formats_of(collection.READABLE, collection.NEED_DELTA_FORMAT))
def test_every_row_of_the_collection_arrives(spark, on_sqlite, table, response_format):
    assert_read_equals(spark, on_sqlite, collection.ROOT / table, response_format)


@pytest.fixture(scope="module", params=["name", "id"])
def mapped_table(request, spark, tables):
    """Written by Spark: column mapping of either mode with a renamed and a dropped column, and deletion vectors."""
    location = tables / f"written_mapped_by_{request.param}"
    target = f"delta.`{location}`"
    spark.sql(
        f"""CREATE TABLE {target} (id BIGINT, `old name` STRING, dropped STRING, part STRING) USING delta PARTITIONED BY (part)
        TBLPROPERTIES ('delta.columnMapping.mode' = '{request.param}', 'delta.enableDeletionVectors' = 'true')"""
    )
    spark.sql(f"INSERT INTO {target} SELECT id, concat('row ', id), 'gone', if(id % 2 = 0, 'even', null) FROM range(1000)")
    spark.sql(f"ALTER TABLE {target} RENAME COLUMN `old name` TO `new name`")
    spark.sql(f"ALTER TABLE {target} DROP COLUMN dropped")
    spark.sql(f"DELETE FROM {target} WHERE id % 10 = 3")
    return location


def test_deletion_vectors_and_column_mapping_hold(spark, on_sqlite, mapped_table):
    assert_read_equals(spark, on_sqlite, mapped_table, "delta")
    assert load(spark, on_sqlite, mapped_table, "delta").count() == 900
    assert rows.of_spark(load(spark, on_sqlite, mapped_table, "delta")) == rows.of_delta(str(mapped_table))


@pytest.mark.parametrize("response_format", FORMATS)
def test_filters_and_limits_hold(spark, on_sqlite, tables, response_format):
    frame = load(spark, on_sqlite, tables / "several_commits", response_format)
    assert frame.where("square >= 250 * 250").count() == 50
    assert [row.id for row in frame.where("id = 77").collect()] == [77]
    assert frame.where("id < 0").count() == 0
    assert len(frame.limit(150).collect()) == 150
    assert frame.selectExpr("sum(square)").first()[0] == sum(i * i for i in range(300))


@pytest.mark.parametrize("response_format", FORMATS)
def test_partition_filters_hold(spark, on_sqlite, tables, response_format):
    frame = load(spark, on_sqlite, tables / "partitioned", response_format)
    for id, part in zip(*lake.partitioned().to_pydict().values()):
        matches = frame["part"].isNull() if part is None else frame["part"] == part
        assert [row.id for row in frame.where(matches).collect()] == [id]
