"""`weir demo` from an empty folder, read as its own output says."""

import json
import os
import re
import subprocess
import sys

import conftest
import delta_sharing
import pytest
import rows
import weir


@pytest.fixture(scope="module")
def demo(request, tmp_path_factory):
    demo = weir.Process(tmp_path_factory.mktemp("demo"), weir.free_port())
    request.config.stash[conftest.servers].append(demo)
    try:
        start(demo)
        yield demo
    finally:
        demo.stop()


def start(demo):
    demo.run("demo", "--dir", "demo", "--listen", f"127.0.0.1:{demo.port}")


def profile(demo):
    return demo.directory / "demo" / "acme.share"


def command(demo, *arguments):
    """What a `weir` command of the demo's operator answers."""
    token = demo.directory / "demo" / "operator.token"
    env = {**os.environ, "WEIR_URL": demo.url, "WEIR_TOKEN_FILE": str(token)}
    ran = subprocess.run([weir.binary(), *arguments], env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout) if "json" in arguments else ran.stdout


def snippet(demo):
    """The Python of the printed output: from its first import to the last line indented alike."""
    lines = demo.log().splitlines()
    first = next(n for n, line in enumerate(lines) if re.match(r"\s*(import|from) ", line))
    indent = re.match(r"\s*", lines[first])[0]
    code = []
    for line in lines[first:]:
        if not line.strip() or not line.startswith(indent):
            break
        code.append(line.removeprefix(indent))
    return "\n".join(code)


def test_the_profile_is_the_owners_alone(demo):
    assert profile(demo).stat().st_mode & 0o077 == 0
    assert json.loads(profile(demo).read_text())["shareCredentialsVersion"] == 1


def test_the_printed_snippet_runs_as_printed(demo):
    code = snippet(demo)
    run = subprocess.run([sys.executable, "-c", code], cwd=demo.directory, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"{code}\n{run.stderr}"
    assert run.stdout.strip()


def test_pandas_reads_every_table(demo):
    tables = delta_sharing.SharingClient(str(profile(demo))).list_all_tables()
    assert {table.share for table in tables} == {"insurer"}
    assert {table.name for table in tables} >= {"claims", "prior_authorizations", "provider_directory"}
    for table in tables:
        assert len(delta_sharing.load_as_pandas(f"{profile(demo)}#{table.share}.{table.schema}.{table.name}"))


def test_a_second_partner_reads_a_view_next_to_a_raw_table(demo):
    governed = demo.directory / "demo" / "northwind.share"
    assert governed.stat().st_mode & 0o077 == 0
    claims = delta_sharing.load_as_pandas(f"{governed}#insurer_governed.health.claims")
    whole = delta_sharing.load_as_pandas(f"{profile(demo)}#insurer.health.claims")
    shown = whole[whole["plan"].isin(["gold", "silver"])]
    assert sorted(claims["claim_id"]) == sorted(shown["claim_id"]) and len(claims) < len(whole)
    assert "member_id" not in claims and not set(claims["member_key"]) & set(whole["member_id"])
    assert len(delta_sharing.load_as_pandas(f"{governed}#insurer_governed.health.provider_directory"))


def test_a_partners_contract_ends_and_its_access_with_it(demo):
    governed = demo.directory / "demo" / "northwind.share"
    url = f"{governed}#insurer_governed.health.claims"
    exposure = command(demo, "exposure", "table", "insurer.claims", "--output", "json")
    shown = {column["path"]: column for column in exposure["columns"]}
    masks = {as_["object"]: as_["mask"] for as_ in shown["member_id"]["shown"]}
    assert masks["insurer.health.claims"] is None and "hash" in str(masks["insurer_governed.health.claims"])
    readers = {reader["recipient"]: reader for of in exposure["objects"] for reader in of["readers"]}
    assert readers["northwind"]["agreements"] == ["northwind-baa"] and readers["acme"]["refused"] is None
    said = command(demo, "control", "update", "PHI", "--min-mask-direct", '"redact"', "--dry-run", "--output", "json")
    assert [of["object"] for of in said["impact"]["objects"]] == ["insurer_governed.health.claims"]
    assert len(delta_sharing.load_as_pandas(url))
    assert command(demo, "agreement", "get", "northwind-baa", "--output", "json")["state"] == "expiring"
    command(demo, "agreement", "terminate", "northwind-baa", "--reason", "end of the tour")
    with pytest.raises(Exception, match="not in force"):
        delta_sharing.load_as_pandas(url)
    assert len(delta_sharing.load_as_pandas(f"{profile(demo)}#insurer.health.claims"))


def test_spark_reads_what_pandas_reads(demo, spark):
    for table in delta_sharing.SharingClient(str(profile(demo))).list_all_tables():
        url = f"{profile(demo)}#{table.share}.{table.schema}.{table.name}"
        frame = spark.read.format("deltaSharing").load(url)
        assert rows.of_spark(frame) == rows.of_pandas(delta_sharing.load_as_pandas(url))


def test_a_second_start_reuses_what_is_there(demo):
    before = profile(demo).read_bytes()
    lake = sorted((path, path.stat().st_mtime_ns) for path in (demo.directory / "demo" / "lake").rglob("*"))
    demo.stop()
    start(demo)
    assert profile(demo).read_bytes() == before
    assert lake == sorted((path, path.stat().st_mtime_ns) for path in (demo.directory / "demo" / "lake").rglob("*"))
    assert delta_sharing.SharingClient(str(profile(demo))).list_all_tables()
