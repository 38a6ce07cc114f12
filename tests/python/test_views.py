"""Governed views, read with the real clients: exactly the columns, masks and rows that the view says, and nothing else."""

import delta_sharing
import pyarrow
import pytest
import rows
from deltalake import DeltaTable, write_deltalake

FORMATS = {"delta": True, "parquet": False}
COLUMNS = [
    {"name": "claim", "from": "id"},
    {"name": "member", "mask": {"hash": {"domain": "member"}}},
    {"name": "plan"},
    {"name": "zip3", "from": "zip", "mask": "zip3"},
    {"name": "note", "mask": "redact"},
]
ROW_FILTER = "plan IN recipient_list('plans') AND amount >= 10"


def claims(start, end):
    ids = list(range(start, end))
    return pyarrow.table(
        {
            "id": ids,
            "member": [f"secret-member-{i % 7}" for i in ids],
            "plan": [("HMO", "PPO", "EPO")[i % 3] for i in ids],
            "zip": [f"{60600 + i % 40}" for i in ids],
            "note": [f"secret note {i}" for i in ids],
            "amount": [i % 25 for i in ids],
        }
    )


def expected(location, version=None):
    """What a partner with the plans HMO and EPO may see, computed from the table itself; members as they are."""
    table = DeltaTable(location, version=version).to_pandas()
    shown = table[table["plan"].isin(["HMO", "EPO"]) & (table["amount"] >= 10)]
    return sorted(zip(shown["id"], shown["member"], shown["plan"], shown["zip"].str[:3], strict=True))


def check(frame, location, version=None):
    assert list(frame.columns) == ["claim", "member", "plan", "zip3", "note"]
    assert set(frame["note"]) == {"REDACTED"}
    frame = frame.sort_values("claim")
    wanted = expected(location, version)
    assert list(zip(frame["claim"], frame["plan"], frame["zip3"], strict=True)) == [(i, plan, zip3) for i, _, plan, zip3 in wanted]
    # One pseudonym a member, and none that says who it is.
    pairs = set(zip(frame["member"], (member for _, member, _, _ in wanted), strict=True))
    assert len(pairs) == len({pseudonym for pseudonym, _ in pairs}) == len({member for _, member in pairs})
    assert not frame["member"].str.contains("secret").any()


@pytest.fixture
def governed(server, tmp_path_factory, tables):
    location = tables / f"governed_{tmp_path_factory.mktemp('g').name}_{'postgres' if server.needs_migration else 'sqlite'}"
    write_deltalake(location, claims(0, 300), partition_by=["plan"])
    write_deltalake(location, claims(300, 500), mode="append")
    name = f"{location.name}"
    return location, server.share_view(f"file://{location}", name, COLUMNS, ROW_FILTER, plans=["HMO", "EPO"])


@pytest.mark.parametrize("response_format", FORMATS)
def test_pandas_reads_what_the_view_shows(server, governed, response_format):
    location, table = governed
    use_delta_format = FORMATS[response_format]
    check(delta_sharing.load_as_pandas(server.table_url(table), use_delta_format=use_delta_format), location)
    older = delta_sharing.load_as_pandas(server.table_url(table), version=0, use_delta_format=use_delta_format)
    check(older, location, 0)
    assert len(delta_sharing.load_as_pandas(server.table_url(table), limit=7, use_delta_format=use_delta_format)) == 7


def test_rows_that_are_added_and_deleted_show_at_once_or_not_at_all(server, governed):
    location, table = governed
    before = len(delta_sharing.load_as_pandas(server.table_url(table)))
    write_deltalake(location, claims(500, 560), mode="append")
    DeltaTable(location).delete("id < 100")
    newest = DeltaTable(location).version()
    client = delta_sharing.SharingClient(str(server.profile))
    shared = next(found for found in client.list_all_tables() if f"{found.schema}.{found.name}" == table)
    # Until its files are there the version before is served; the files of a commit take a moment.
    for _ in range(600):
        frame = delta_sharing.load_as_pandas(server.table_url(table))
        if delta_sharing.get_table_version(server.table_url(table)) == newest:
            break
        assert len(frame) == before
    check(delta_sharing.load_as_pandas(server.table_url(table)), location)
    assert shared.name == location.name


def test_spark_reads_what_pandas_reads(server, governed, spark):
    _, table = governed
    for response_format in FORMATS:
        frame = spark.read.format("deltaSharing").option("responseFormat", response_format).load(server.table_url(table))
        assert rows.of_spark(frame) == rows.of_pandas(delta_sharing.load_as_pandas(server.table_url(table)))


def test_changes_of_a_view_are_refused_by_name(server, governed):
    _, table = governed
    with pytest.raises(Exception, match="governed view"):
        delta_sharing.load_table_changes_as_pandas(server.table_url(table), starting_version=0)
