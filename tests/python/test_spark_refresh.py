"""A Spark read that outlives its URLs: the connector refreshes them midway, and still reads the version it began with."""

import concurrent.futures
import time

import conftest
import pyarrow
import pytest
import rows
import weir
from deltalake import write_deltalake
from test_spark import FORMATS

TTL_SECONDS = 20
# Files that one task reads one after another, each a sleep after the one before: the last when the first URLs have ended.
FILES, PAUSE_MS = 5, 6000


@pytest.fixture
def short_lived(request, tmp_path):
    """A server whose URLs live for seconds."""
    (tmp_path / "lake").mkdir()
    server = weir.Server(tmp_path, [f'name = "local"\nurl = "file://{tmp_path}/lake"'], sharing=f"proxied_url_ttl_seconds = {TTL_SECONDS}")
    request.config.stash[conftest.servers].append(server)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_a_long_read_refreshes_its_urls_and_keeps_its_version(spark, short_lived, tmp_path):
    location = tmp_path / "lake" / "slow"
    for id in range(FILES):
        write_deltalake(location, pyarrow.table({"id": [id]}), mode="append")
    direct = rows.of_delta(str(location))
    table = short_lived.share_history(f"file://{location}")

    def read(response_format):
        frame = spark.read.format("deltaSharing").option("responseFormat", response_format).load(short_lived.table_url(table))
        slow = frame.coalesce(1).selectExpr("id", f"reflect('java.lang.Thread', 'sleep', {PAUSE_MS}L) AS slept").collect()
        return rows.of_records(["id"], [(row.id,) for row in slow])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        reads = {response_format: pool.submit(read, response_format) for response_format in FORMATS}
        while len({event["format"] for event in short_lived.audit("table.query", table)}) < len(FORMATS):
            assert not any(read.done() for read in reads.values()), reads
            time.sleep(0.2)
        # A refresh that was a new query would see this commit.
        write_deltalake(location, pyarrow.table({"id": [99]}), mode="append")
        for read in reads.values():
            assert read.result() == direct

    for response_format in FORMATS:
        queries = [event for event in short_lived.audit("table.query", table) if event["format"] == response_format]
        assert len(queries) >= 2, "no URL was refreshed"
        assert {event["table_version"] for event in queries} == {FILES - 1}
        assert all(event["decision"] == "allow" and event["files"] == FILES for event in queries)
    opened = short_lived.audit("file.read", table)
    assert {event["decision"] for event in opened} == {"allow"}
