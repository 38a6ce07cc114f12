"""The pandas client of PyPI (`delta-sharing`) against what deltalake reads directly."""

import delta_sharing
import lake
import pyarrow
import pytest
import requests
import rows
from deltalake import DeltaTable, write_deltalake

# What the client calls the format: its own choice from what the server offers, delta, and parquet.
FORMATS = {"negotiated": None, "delta": True, "parquet": False}


def read(server, table, response_format="negotiated", **options):
    url = server.table_url(table)
    return delta_sharing.load_as_pandas(url, use_delta_format=FORMATS[response_format], **options)


def assert_read_equals(server, location, response_format, read_directly=rows.of_delta):
    read_rows = rows.of_pandas(read(server, server.share(f"file://{location}"), response_format))
    assert read_rows == read_directly(str(location))


@pytest.mark.parametrize("response_format", FORMATS)
@pytest.mark.parametrize("table", lake.TABLES)
def test_every_row_arrives(server, tables, table, response_format):
    if response_format == "parquet" and table in lake.NEED_DELTA_FORMAT:
        assert_parquet_is_refused(server, tables / table)
    else:
        assert_read_equals(server, tables / table, response_format)


def assert_parquet_is_refused(server, location):
    table = server.share(f"file://{location}")
    with pytest.raises(requests.HTTPError) as refusal:
        read(server, table, "parquet")
    assert refusal.value.response.status_code == 400
    assert "Unsupported Delta Table Properties" in refusal.value.response.text


def test_batches_hold_the_same_rows(server, tables):
    table = server.share(f"file://{tables}/several_commits")
    whole = read(server, table)
    for response_format in FORMATS:
        assert rows.of_pandas(read(server, table, response_format, convert_in_batches=True)) == rows.of_pandas(whole)


def test_a_limit_is_kept(server, tables):
    table = server.share(f"file://{tables}/several_commits")
    for response_format in FORMATS:
        assert len(read(server, table, response_format, limit=150)) == 150


def test_a_commit_is_seen_by_the_next_read(server, tables):
    location = tables / f"growing_{'postgres' if server.needs_migration else 'sqlite'}"
    write_deltalake(location, pyarrow.table({"id": [1]}))
    table = server.share(f"file://{location}")
    for expected in ([1], [1, 2], [1, 2, 3]):
        assert sorted(read(server, table)["id"]) == expected
        write_deltalake(location, pyarrow.table({"id": [expected[-1] + 1]}), mode="append")
    DeltaTable(location).delete("id < 4")
    assert list(read(server, table)["id"]) == [4]


def test_the_client_lists_what_is_shared(server, tables):
    table = server.share(f"file://{tables}/several_commits")
    client = delta_sharing.SharingClient(str(server.profile))
    assert [share.name for share in client.list_shares()] == ["lake"]
    assert table in [f"{found.schema}.{found.name}" for found in client.list_all_tables()]
