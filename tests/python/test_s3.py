"""Tables on S3, read through presigned URLs by a server that checks every signature."""

import json

import conftest
import lake
import pytest
import requests
import rows
from deltalake import write_deltalake
from test_pandas import FORMATS, read


@pytest.fixture(scope="module")
def location(s3):
    location = f"s3://{conftest.S3_BUCKET}/sub folder/partitioned"
    write_deltalake(location, lake.partitioned(), partition_by=["part"], storage_options=s3.options)
    return location


@pytest.mark.parametrize("response_format", FORMATS)
def test_pandas_reads_every_row(server, s3, location, response_format):
    table = server.share(location)
    assert rows.of_pandas(read(server, table, response_format)) == rows.of_delta(location, s3.options)


def test_spark_reads_every_row(on_sqlite, s3, location, spark):
    url = on_sqlite.table_url(on_sqlite.share(location))
    for response_format in ("parquet", "delta"):
        frame = spark.read.format("deltaSharing").option("responseFormat", response_format).load(url)
        assert rows.of_spark(frame) == rows.of_delta(location, s3.options)


def test_urls_lead_to_the_bucket_and_nowhere_when_altered(server, s3, location):
    response = server.query(server.share(location))
    urls = [line["file"]["url"] for line in map(json.loads, response.text.splitlines()) if "file" in line]
    assert len(urls) == lake.partitioned().num_rows
    for url in urls:
        assert url.startswith(s3.endpoint)
        assert requests.get(url, timeout=10).content.startswith(b"PAR1")
    path, signature = urls[0], urls[1].partition("?")[2]
    altered = [
        path.partition("?")[0],
        f"{path.partition('?')[0]}?{signature}",
        path.replace("X-Amz-Expires=", "X-Amz-Expires=1"),
    ]
    for url in altered:
        assert requests.get(url, timeout=10).status_code in (400, 403), url
