"""The pandas client on a table that holds its schema: it reads the accepted version until another schema is accepted."""

import uuid

import delta_sharing
import pyarrow
import pytest
import requests
import rows
from deltalake import write_deltalake
from test_pandas import FORMATS, read

HELD = "a table's schema changed; its recipients are served the newest version that fits"


def batch(ids, **more):
    return pyarrow.table({"id": list(ids), "name": [f"row {i}" for i in ids], **more})


def hold(server, location):
    """Shares the table at `location` with its past and its change data feed, on hold."""
    name, response = server.register(f"file://{location}")
    assert response.ok, response.text
    options = {"history": True, "cdf": True, "start_version": 0, "on_schema_change": "hold"}
    server.admin("PUT", f"/shares/lake/objects/held/{name}", {"source": {"table": f"file.{name}"}, **options})
    return f"held.{name}"


def seen_object(server, table):
    return server.admin("GET", f"/shares/lake/objects/{table.replace('.', '/')}")


def changes(server, table, **asked):
    frame = delta_sharing.load_table_changes_as_pandas(server.table_url(table), **asked)
    frame.pop("_commit_timestamp")
    return rows.of_pandas(frame)


def test_the_held_version_is_read_until_the_new_schema_is_accepted(server, tables):
    location = tables / f"held_{uuid.uuid4().hex}"
    write_deltalake(location, batch(range(10)), configuration={"delta.enableChangeDataFeed": "true"})
    write_deltalake(location, batch(range(10, 20)), mode="append")
    table = hold(server, location)
    url = server.table_url(table)
    before = rows.of_delta(str(location))
    fed = changes(server, table, starting_version=0)

    write_deltalake(location, batch(range(20, 30), salary=list(range(10))), mode="append", schema_mode="merge")
    write_deltalake(location, batch(range(30, 40), salary=list(range(10))), mode="append")
    for restarted in (False, True):
        for response_format in FORMATS:
            assert rows.of_pandas(read(server, table, response_format)) == before
            assert rows.of_pandas(read(server, table, response_format, version=1)) == before
        assert delta_sharing.get_table_version(url) == 1
        assert "salary" not in delta_sharing.get_table_metadata(url).schema_string
        assert changes(server, table, starting_version=0) == fed
        with pytest.raises(requests.HTTPError) as refusal:
            read(server, table, version=2)
        assert refusal.value.response.status_code == 400
        if not restarted:
            server.restart()

    seen = seen_object(server, table)["schema_hold"]
    assert (seen["serving_version"], seen["newest_version"], seen["changes"]) == (1, 3, ["column salary added"])
    name = table.partition(".")[2]
    told = [line for line in server.log().splitlines() if HELD in line and name in line]
    # Once for each run of the server.
    assert len(told) == 2, told

    server.admin("POST", f"/shares/lake/objects/{table.replace('.', '/')}/accept-schema", {"reason": "agreed"})
    assert seen_object(server, table)["schema_hold"] is None
    after = rows.of_delta(str(location))
    assert "salary" in after[0]
    for response_format in FORMATS:
        assert rows.of_pandas(read(server, table, response_format)) == after
    assert delta_sharing.get_table_version(url) == 3


def test_what_is_disclosed_is_told(on_sqlite, tables):
    for table, item, told in [
        ("deletion_vectors", "deleted_rows", lambda value: value > 0),
        ("partitioned", "partition_values_in_paths", lambda value: value == ["part"]),
        ("several_commits", "deleted_rows", lambda value: value == 0),
    ]:
        shared = on_sqlite.share(f"file://{tables}/{table}")
        assert told(seen_object(on_sqlite, shared)["disclosure"][item]), table
