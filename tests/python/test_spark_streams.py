"""Spark's structured streaming from a share, across new commits and restarts of the server and of the stream."""

import time

import conftest
import pyarrow
import pytest
import rows
import weir
from deltalake import write_deltalake

# How each stream reads. Of changes the connector streams none in delta format.
STREAMS = {
    "parquet": {"responseFormat": "parquet"},
    "delta": {"responseFormat": "delta"},
    "changes": {"responseFormat": "parquet", "readChangeFeed": "true"},
}


def append(location, start):
    """Commits the rows `start` to `start + 2`; the first commit makes the table."""
    batch = pyarrow.table({"id": [start, start + 1, start + 2], "name": [f"row {start}", None, "x"]})
    write_deltalake(location, batch, mode="append", configuration={"delta.enableChangeDataFeed": "true"})


@pytest.fixture
def server(request, tmp_path):
    """A server that no other test needs, for it is restarted."""
    (tmp_path / "lake").mkdir()
    server = weir.Server(tmp_path, [f'name = "local"\nurl = "file://{tmp_path}/lake"'])
    request.config.stash[conftest.servers].append(server)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def streams(spark, tmp_path):
    """Starts the streams, each from its checkpoint where it has one, and stops them in the end."""
    running = []

    def start(url):
        for name, options in STREAMS.items():
            source = spark.readStream.format("deltaSharing").options(startingVersion=0, **options).load(url)
            sink = source.writeStream.format("parquet").option("checkpointLocation", str(tmp_path / "checkpoints" / name))
            running.append(sink.trigger(processingTime="1 second").start(str(tmp_path / "out" / name)))

    def stop():
        while running:
            running.pop().stop()

    start.stop = stop
    start.running = running
    yield start
    stop()


def arrived(spark, tmp_path, name):
    """The ids a stream wrote, each as often as it did."""
    out = tmp_path / "out" / name
    # Spark reads by the sink's own log, which tells the files that count; before there is one, there is nothing.
    if not (out / "_spark_metadata").exists():
        return []
    return sorted(row.id for row in spark.read.schema("id LONG").parquet(str(out)).collect())


def wait_until_arrived(spark, tmp_path, streams, expected, within_seconds=90):
    deadline = time.monotonic() + within_seconds
    while True:
        for query in streams.running:
            if query.exception():
                raise query.exception()
        found = {name: arrived(spark, tmp_path, name) for name in STREAMS}
        if all(ids == expected for ids in found.values()):
            return
        assert time.monotonic() < deadline, f"expected {expected}, found {found}"
        time.sleep(2)


def test_streams_go_on_over_commits_and_restarts_of_both_sides(spark, server, streams, tmp_path):
    location = tmp_path / "lake" / "streamed"
    append(location, 0)
    append(location, 3)
    url = server.table_url(server.share_history(f"file://{location}"))
    streams(url)
    wait_until_arrived(spark, tmp_path, streams, list(range(6)))

    append(location, 6)
    wait_until_arrived(spark, tmp_path, streams, list(range(9)))

    streams.stop()
    server.restart()
    append(location, 9)
    streams(url)
    wait_until_arrived(spark, tmp_path, streams, list(range(12)))

    # A server that restarts under a running stream is no more than a pause.
    server.restart()
    append(location, 12)
    wait_until_arrived(spark, tmp_path, streams, list(range(15)))

    for name, options in STREAMS.items():
        written = spark.read.parquet(str(tmp_path / "out" / name))
        if "readChangeFeed" in options:
            assert {row._change_type for row in written.collect()} == {"insert"}
            assert {row._commit_version for row in written.collect()} == set(range(5))
        assert rows.of_spark(written.select("id", "name")) == rows.of_delta(str(location))
