"""Every table of the collection named by WEIR_TEST_TABLES, read by the pandas client or refused with the reason."""

import collection
import pytest
import rows
from deltalake import DeltaTable
from test_pandas import FORMATS, assert_parquet_is_refused, assert_read_equals

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
