"""Governed views, read with the real clients: exactly the columns, masks and rows that the view says, and nothing else."""

import datetime

import delta_sharing
import pyarrow
import pytest
import rows
from deltalake import DeltaTable, write_deltalake
from mask_model import shifted

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
            "seen": [datetime.date(2024, 1, 1) + datetime.timedelta(i) if i % 9 else None for i in ids],
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


def test_shifted_dates_and_surrogates_are_what_the_documents_say(server, governed):
    location, _ = governed
    shift, surrogate = {"key": "member", "domain": "member"}, {"surrogate": {"domain": "member"}}
    columns = [{"name": "claim", "from": "id"}, {"name": "seen", "mask": {"shift": shift}}, {"name": "code", "from": "member", "mask": surrogate}]
    table = server.share_view(f"file://{location}", f"{location.name}_kept", columns, "seen >= DATE '2024-03-01' OR seen IS NULL")
    keys = {
        "root_key": (server.directory / "weir.key").read_bytes().hex(),
        "key_version": 1,
        "recipient": server.admin("GET", "/recipients/partner")["id"],
        "share": server.admin("GET", "/shares/lake")["id"],
    }
    raw = DeltaTable(location).to_pyarrow_table().to_pylist()
    raw = {row["id"]: row for row in raw if row["seen"] is None or row["seen"] >= datetime.date(2024, 3, 1)}
    frames = [delta_sharing.load_as_pandas(server.table_url(table), use_delta_format=use) for use in FORMATS.values()]
    for frame in frames:
        assert sorted(frame["claim"]) == sorted(raw)
        codes = {}
        for claim, seen, code in zip(frame["claim"], frame["seen"], frame["code"], strict=True):
            row = raw[claim]
            wanted = row["seen"] and shifted(keys, shift, "date", row["seen"].isoformat(), "string", row["member"])
            assert (str(seen)[:10] if wanted else None) == wanted and (wanted or str(seen) in ("None", "NaT", "nan")), claim
            assert codes.setdefault(row["member"], code) == code and code.startswith("s_") and len(code) == 28
        assert len(set(codes.values())) == len(codes) == 7
    assert dict(zip(frames[0]["claim"], frames[0]["code"])) == dict(zip(frames[1]["claim"], frames[1]["code"]))


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
