"""What the tests share: the tables, an S3 server, PostgreSQL, one Spark session, and a `weir serve` on each database."""

import collections
import os
import pathlib
import subprocess
import uuid

import collection
import lake
import psycopg
import pytest
import weir

CACHE = pathlib.Path(os.environ.get("WEIR_TEST_CACHE", pathlib.Path.home() / ".cache" / "weir-tests"))

S3 = collections.namedtuple("S3", "endpoint options")
S3_BUCKET = "warehouse"

# The processes a session started, whose logs a failure shows.
servers = pytest.StashKey()


def pytest_configure(config):
    config.stash[servers] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr[2]}"
    if report.failed:
        for server in item.config.stash[servers]:
            report.sections.append((f"end of {server.log_path}", server.log()[-4000:]))
    return report


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """A folder of tables that the tests wrote."""
    root = tmp_path_factory.mktemp("lake")
    lake.write(root)
    return root


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """An S3 server that verifies signatures, with an empty bucket."""
    root = tmp_path_factory.mktemp("s3")
    (root / S3_BUCKET).mkdir()
    keys = {"AWS_ACCESS_KEY_ID": "weir-tests", "AWS_SECRET_ACCESS_KEY": uuid.uuid4().hex}
    program = weir.target_dir() / "debug" / "examples" / "s3_server"
    if not program.exists():
        pytest.skip(f"no S3 server at {program}: `cargo build --example s3_server` makes it")
    process = subprocess.Popen([program, root], env={**os.environ, **keys}, stdout=subprocess.PIPE, text=True)
    try:
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
        options = {"aws_endpoint": endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}
        yield S3(endpoint, options | {name.lower(): key for name, key in keys.items()})
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def new_database():
    """Makes a PostgreSQL database and answers its URL; each server has its own, because each has a root key of its own."""
    url = os.environ.get("WEIR_TEST_POSTGRES")
    if not url:
        pytest.skip("WEIR_TEST_POSTGRES names no server: `make test` starts one")
    names = []
    with psycopg.connect(url, autocommit=True) as connection:

        def make():
            names.append(f"weir_{uuid.uuid4().hex}")
            connection.execute(f"CREATE DATABASE {names[-1]}")
            return f"{url.rpartition('/')[0]}/{names[-1]}"

        yield make
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def serve(request, database):
    """A server for the session, on the test's own tables, on the collection where there is one, and on S3."""
    roots = [request.getfixturevalue("tables")] + ([collection.ROOT] if collection.ROOT else [])
    storages = [f'name = "local{n}"\nurl = "file://{root}"' for n, root in enumerate(roots)]
    options = ", ".join(f'{key} = "{value}"' for key, value in request.getfixturevalue("s3").options.items())
    storages.append(f'name = "s3"\nurl = "s3://{S3_BUCKET}"\noptions = {{ {options} }}')
    server = weir.Server(request.getfixturevalue("tmp_path_factory").mktemp("weir"), storages, database)
    request.config.stash[servers].append(server)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def on_sqlite(request):
    yield from serve(request, None)


@pytest.fixture(scope="session")
def on_postgres(request):
    yield from serve(request, request.getfixturevalue("new_database")())


@pytest.fixture(params=["sqlite", "postgres"])
def server(request):
    return request.getfixturevalue(f"on_{request.param}")


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """One Spark session with the Delta Sharing connector."""
    jars = sorted(CACHE.glob("jars/*.jar"))
    if not any(jar.name.startswith("delta-sharing-spark") for jar in jars):
        pytest.skip("no Delta Sharing connector for Spark: Maven offered none, and WEIR_TEST_CONNECTOR_JARS names none")
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(map(str, jars)))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        # Without checksum files, which nothing keeps in step with a table that moved.
        .config("spark.hadoop.fs.file.impl", "org.apache.hadoop.fs.RawLocalFileSystem")
        .config("spark.hadoop.fs.AbstractFileSystem.file.impl", "org.apache.hadoop.fs.local.RawLocalFs")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("spark")))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        # The connector refreshes URLs seconds before they end instead of a quarter of an hour, so that short lives can be
        # tried, and looks for new commits as often as it may.
        .config("spark.delta.sharing.driver.refreshCheckIntervalMs", "500")
        .config("spark.delta.sharing.driver.refreshThresholdMs", "8000")
        .config("spark.delta.sharing.executor.refreshThresholdMs", "4000")
        .config("spark.delta.sharing.streaming.queryTableVersionIntervalSeconds", "10s")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    yield session
    session.stop()
