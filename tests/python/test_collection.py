"""Every table of the collection named by WEIR_TEST_TABLES, read by the pandas client or refused with the reason."""

import json
import subprocess

import collection
import pytest
import rows
import weir
from deltalake import DeltaTable
from test_pandas import FORMATS, assert_parquet_is_refused, assert_read_equals

# The checks of `weir conformance` that open files.
READ_FILES = {79}

pytestmark = pytest.mark.skipif(not collection.TABLES, reason="WEIR_TEST_TABLES names no folder of Delta tables")


@pytest.mark.parametrize("response_format", FORMATS)
@pytest.mark.parametrize("table", collection.READABLE)
def test_every_row_arrives(server, table, response_format):
    if response_format == "parquet" and table in collection.NEED_DELTA_FORMAT:
        assert_parquet_is_refused(server, collection.ROOT / table)
    elif response_format != "delta" and table in collection.BEYOND_PYARROW:
        assert_read_equals(server, collection.ROOT / table, response_format, rows.of_files)
    else:
        assert_read_equals(server, collection.ROOT / table, response_format)


@pytest.mark.parametrize("table", sorted(collection.WITHOUT_DATA_FILES))
def test_the_files_of_the_log_are_answered(server, table):
    location = collection.ROOT / table
    response = server.query(
        server.share(f"file://{location}"), "responseformat=delta,parquet;readerfeatures=deletionvectors,columnmapping,varianttype"
    )
    assert response.status_code == 200, response.text
    files = [line for line in response.text.splitlines() if line.startswith('{"file"')]
    assert len(files) == len(DeltaTable(location).file_uris())


@pytest.mark.parametrize("table", sorted(collection.REFUSED))
def test_a_table_nobody_can_read_is_refused_with_the_reason(server, table):
    _, response = server.register(f"file://{collection.ROOT / table}")
    assert response.status_code == 422, response.text
    assert "reader" in response.text.lower()


@pytest.mark.parametrize("table", [name for name in collection.TABLES if name not in collection.REFUSED])
def test_no_check_of_the_protocol_fails(on_sqlite, table):
    subject = on_sqlite.share_history(f"file://{collection.ROOT / table}")
    command = [weir.binary(), "conformance", "--profile", on_sqlite.profile, "--table", f"lake.{subject}", "--output", "json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    checks = json.loads(run.stdout)["checks"]
    # Where only the log is left of a table, files can be listed but not read.
    read_files = READ_FILES if table in collection.WITHOUT_DATA_FILES else set()
    failed = [check for check in checks if check["outcome"] == "fail" and check["number"] not in read_files]
    assert not failed, failed
    assert sum(check["outcome"] == "pass" for check in checks) >= 40, checks
