"""What `clients` says when a table is registered is what the connectors do: `ok` exactly where they read it."""

import delta_sharing
import handmade
import pyarrow
import pytest

VOID, MONTHS, DAYS = "void", "interval year to month", "interval day to second"


def struct(data_type):
    return {"type": "struct", "fields": [handmade.field("x", "long"), handmade.field("y", data_type)]}


def array(data_type):
    return {"type": "array", "elementType": data_type, "containsNull": True}


def map_to(data_type):
    return {"type": "map", "keyType": "string", "valueType": data_type, "valueContainsNull": True}


# A column, whether the table is partitioned by it, and the features that the table lists.
COLUMNS = {
    "long": ("long", False, []),
    "void": (VOID, False, []),
    "void_in_struct": (struct(VOID), False, []),
    "void_in_array": (array(VOID), False, []),
    "void_in_map": (map_to(VOID), False, []),
    "void_partition": (VOID, True, []),
    "months": (MONTHS, False, []),
    "days": (DAYS, False, []),
    "days_in_struct": (struct(DAYS), False, []),
    "binary_partition": ("binary", True, []),
    "text_partition": ("string", True, []),
    "local_time": ("timestamp_ntz", False, ["timestampNtz"]),
    "variant": ("variant", False, ["variantType"]),
    "unused_widening": ("long", False, ["typeWidening"]),
    "unused_variant": ("long", False, ["variantType"]),
    "unused_local_time": ("long", False, ["timestampNtz"]),
    "udt": ({"type": "udt", "class": "x.Vector", "sqlType": array("double")}, False, []),
    "text_of_a_length": ("varchar(10)", False, []),
}


@pytest.fixture(scope="module")
def registered(on_sqlite, tables):
    """The name and the verdicts of each table."""
    found = {}
    for name, (data_type, is_partition, features) in COLUMNS.items():
        location = tables / f"clients_{name}"
        fields = [handmade.field("id", "long"), handmade.field("c", data_type)]
        values = {"c": None} if is_partition else {}
        rows = pyarrow.table({"id": pyarrow.array([1], pyarrow.int64())})
        action = handmade.add(location, rows, "a.parquet", values)
        protocol = handmade.protocol(*features) if features else {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
        handmade.write_log(location, [[protocol, handmade.metadata(fields, ["c"] if is_partition else []), action]])
        _, response = on_sqlite.register(f"file://{location}")
        assert response.ok, response.text
        found[name] = on_sqlite.share(f"file://{location}"), response.json()["delta"]
    return found


def reads(read):
    try:
        return len(read()) == 1
    except Exception:
        return False


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("connector, use_delta_format", [("pandas_parquet", False), ("pandas_delta", True)])
def test_pandas_reads_what_is_called_ok(on_sqlite, registered, name, connector, use_delta_format):
    table, said = registered[name]
    is_read = reads(lambda: delta_sharing.load_as_pandas(on_sqlite.table_url(table), use_delta_format=use_delta_format))
    assert is_read == (said["clients"][connector] == "ok"), said["clients"][connector]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("response_format", ["parquet", "delta"])
def test_spark_reads_what_is_called_ok(spark, on_sqlite, registered, name, response_format):
    table, said = registered[name]
    reader = spark.read.format("deltaSharing").option("responseFormat", response_format)
    verdict = said["clients"][f"spark_{response_format}"]
    assert reads(lambda: reader.load(on_sqlite.table_url(table)).collect()) == (verdict == "ok"), verdict
