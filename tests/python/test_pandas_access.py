"""The pandas client while its access ends: what it says, and that it says so at once instead of trying again."""

import collections
import datetime
import json
import re
import time
import uuid

import delta_sharing
import pytest
import requests
import rows
from delta_sharing.reader import DeltaSharingReader
from delta_sharing.rest_client import DataSharingRestClient
from test_pandas import FORMATS

# The client waits longer than this before its eighth retry, and gives up after two minutes.
AT_ONCE_SECONDS = 15

Lease = collections.namedtuple("Lease", "server name path token_id grant_id")


@pytest.fixture
def lease(server, tables, tmp_path):
    """A recipient of the test's own with a share of its own, which holds a table of three files."""
    name = f"lease-{uuid.uuid4().hex[:12]}"
    location = f"file://{tables}/several_commits"
    table, _ = server.register(location)
    server.admin("PUT", f"/shares/{name}", {})
    server.admin("PUT", f"/shares/{name}/objects/main/squares", {"source": {"table": f"file.{table}"}})
    server.admin("PUT", f"/recipients/{name}", {})
    grant = server.admin("POST", "/grants", {"share": name, "recipient": name})
    token = issue(server, name, tmp_path / "first.share")
    return Lease(server, name, tmp_path / "first.share", token["id"], grant["id"])


def issue(server, name, path, **asked):
    token = server.admin("POST", f"/recipients/{name}/tokens", {"reveal": True, **asked})
    path.write_text(json.dumps(token["profile"]))
    return token


def load(lease, response_format="negotiated", path=None, **options):
    url = f"{path or lease.path}#{lease.name}.main.squares"
    return delta_sharing.load_as_pandas(url, use_delta_format=FORMATS[response_format], **options)


def refusal(read):
    """What the client raises, at once."""
    began = time.monotonic()
    with pytest.raises(requests.HTTPError) as raised:
        read()
    assert time.monotonic() - began < AT_ONCE_SECONDS, "it tried again"
    return raised.value


def is_told(error, status, message):
    assert error.response.status_code == status
    # The client shows the server's words, broken into quoted lines.
    shown = " ".join(re.sub("[\"']", "", str(error)).split())
    assert message in shown, shown
    assert error.response.json()["requestId"] in shown


def end(lease, how):
    reason = {"reason": "a test"}
    path, body = {
        "token": (f"/recipients/{lease.name}/tokens/{lease.token_id}/revoke", reason),
        "grant": (f"/grants/{lease.grant_id}/revoke", reason),
        "share": (f"/shares/{lease.name}/revoke", reason),
        "suspended": (f"/recipients/{lease.name}/suspend", reason),
        "freeze": ("/freeze", reason),
        "networks": (f"/recipients/{lease.name}", {"allowed_cidrs": ["198.51.100.0/24"]}),
    }[how]
    lease.server.admin("PATCH" if how == "networks" else "POST", path, body)


# Each end, and what a user reads.
ENDS = {
    "token": (401, "the bearer token is missing, unknown, expired or revoked; ask the data provider for a new profile file"),
    "grant": (403, "has ended; ask the data provider to renew it"),
    "share": (403, "has ended; ask the data provider to renew it"),
    "suspended": (403, "the data provider has suspended this recipients access; ask the data provider to resume it"),
    "freeze": (403, "the data provider has paused all sharing; try again later or ask the data provider"),
    "networks": (403, "requests from the address 127.0.0.1 are not allowed"),
}


@pytest.fixture
def thawed(server):
    yield
    server.try_admin("POST", "/unfreeze", {"reason": "a test"})


@pytest.mark.parametrize("how", ENDS)
def test_access_that_ends_between_listing_and_loading_is_told_at_once(lease, thawed, how):
    client = delta_sharing.SharingClient(str(lease.path))
    assert [table.name for table in client.list_all_tables()] == ["squares"]
    end(lease, how)
    status, message = ENDS[how]
    for response_format in FORMATS:
        is_told(refusal(lambda: load(lease, response_format)), status, message)
    if how in ("grant", "share"):
        # The partner is still one, and is told that nothing is shared with it.
        assert client.list_all_tables() == [] and client.list_shares() == []
    else:
        is_told(refusal(client.list_all_tables), status, message)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.05)


def test_a_token_that_expires_in_use_is_told_at_once(lease, tmp_path):
    short = tmp_path / "short.share"
    token = issue(lease.server, lease.name, short, expires_in_seconds=3, credential="short")["token"]
    client = delta_sharing.SharingClient(str(short))
    assert [share.name for share in client.list_shares()] == [lease.name]
    shares = f"{lease.server.url}/delta-sharing/shares"
    until(lambda: requests.get(shares, headers={"authorization": f"Bearer {token}"}, timeout=10).status_code == 401)
    for response_format in FORMATS:
        is_told(refusal(lambda: load(lease, response_format, short)), *ENDS["token"])
    is_told(refusal(client.list_shares), *ENDS["token"])
    assert len(load(lease)) == 300, "the other token is as it was"


def test_a_grant_whose_agreement_ends_in_use_is_told_at_once(lease):
    end_at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    agreement = {"ref": "A-7", "valid_until": end_at.isoformat()}
    grant = {"share": lease.name, "recipient": lease.name, "replaces": lease.grant_id, "agreement": agreement}
    lease.server.admin("POST", "/grants", grant)
    client = delta_sharing.SharingClient(str(lease.path))
    properties = {share.name for share in client.list_shares()}
    assert properties == {lease.name}
    until(lambda: client.list_shares() == [])
    error = refusal(lambda: load(lease))
    is_told(error, 403, "the agreement that access stands on has ended; ask the data provider to renew it")
    assert error.response.json()["errorCode"] == "AGREEMENT_ENDED"


def test_what_an_agreement_does_not_allow_is_told_with_its_code(lease):
    """A contract that is suspended, resumed, narrowed and terminated, in the words that an analyst sees."""
    admin, name = lease.server.admin, lease.name
    purpose, now = f"fraud-{name}", datetime.datetime.now(datetime.timezone.utc)
    admin("PUT", f"/purposes/{purpose}", {"description": "a test"})
    contract = {
        "recipient": name,
        "type": "BAA",
        "document": {"uri": "clm://1", "sha256": "0" * 64},
        "purposes": [purpose],
        "valid_from": (now - datetime.timedelta(days=1)).isoformat(),
        "valid_until": (now + datetime.timedelta(days=100)).isoformat(),
    }
    admin("PUT", f"/agreements/{name}", contract)
    admin("POST", f"/agreements/{name}/activate", {"reason": "signed"})
    grant = {"share": name, "recipient": name, "purpose": purpose, "replaces": lease.grant_id, "agreements": [name]}
    admin("POST", "/grants", grant)
    inactive = (
        "the agreement that access stands on is not in force: it is suspended, terminated, or not yet active; "
        "ask the data provider"
    )
    not_for = (
        "this data may not be used for the purpose that access was granted for; "
        "ask the data provider which purposes the agreement allows"
    )
    for step, code, message in [
        ("suspend", "AGREEMENT_INACTIVE", inactive),
        ("resume", None, None),
        ([], "PURPOSE_NOT_ALLOWED", not_for),
        ([purpose], None, None),
        ("terminate", "AGREEMENT_INACTIVE", inactive),
    ]:
        if isinstance(step, list):
            admin("PATCH", f"/agreements/{name}", {"purposes": step})
        else:
            admin("POST", f"/agreements/{name}/{step}", {"reason": "a test"})
        for response_format in FORMATS:
            if code is None:
                assert len(load(lease, response_format)) == 300
            else:
                error = refusal(lambda: load(lease, response_format))
                is_told(error, 403, message)
                assert error.response.json()["errorCode"] == code
                assert f"'{name}'" not in error.response.json()["message"]


def test_both_tokens_of_a_rotation_read_until_the_overlap_is_over(lease, tables, tmp_path):
    direct = rows.of_delta(str(tables / "several_commits"))
    rotated = lease.server.admin(
        "POST",
        f"/recipients/{lease.name}/tokens/{lease.token_id}/rotate",
        {"existing_token_expire_in_seconds": 20, "reveal": True},
    )
    second = tmp_path / "second.share"
    second.write_text(json.dumps(rotated["profile"]))
    for path in (lease.path, second):
        for response_format in FORMATS:
            assert rows.of_pandas(load(lease, response_format, path)) == direct
    # Rotating again ends the overlap: whoever was slow is told, and the new profile reads on.
    lease.server.admin("POST", f"/recipients/{lease.name}/tokens/{lease.token_id}/revoke", {})
    is_told(refusal(lambda: load(lease)), *ENDS["token"])
    assert rows.of_pandas(load(lease, path=second)) == direct


@pytest.mark.parametrize("how", ("token", "share", "freeze"))
@pytest.mark.parametrize("response_format", ("parquet", "delta"))
def test_access_that_ends_between_the_urls_and_the_files_ends_the_read_at_once(lease, thawed, monkeypatch, response_format, how):
    listed = DataSharingRestClient.list_files_in_table

    def list_then_end(*arguments, **options):
        found = listed(*arguments, **options)
        end(lease, how)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(DataSharingRestClient, "list_files_in_table", list_then_end)
        error = failure(lambda: load(lease, response_format))
    # The libraries that read files show neither status nor words: one says that there is no such file, the other looks for
    # a footer in the refusal.
    if response_format == "parquet":
        assert isinstance(error, FileNotFoundError), repr(error)
    else:
        assert "Corrupt footer" in str(error)
    reads = reads_of(lease)
    assert {event["decision"] for event in reads} == {"deny"}, "no byte was handed out"
    assert reads[-1]["reason"] == {"token": "TOKEN_REVOKED", "share": "GRANT_REVOKED", "freeze": "FROZEN"}[how]
    # Whoever tries again reads why.
    is_told(refusal(lambda: load(lease, response_format)), *ENDS[how])


def test_a_read_whose_access_ends_after_its_first_file_gets_no_second_one(lease, monkeypatch):
    read_file = DeltaSharingReader._to_pandas
    read = []

    def read_then_end(action, *arguments, **options):
        frame = read_file(action, *arguments, **options)
        read.append(len(frame))
        end(lease, "share")
        return frame

    monkeypatch.setattr(DeltaSharingReader, "_to_pandas", staticmethod(read_then_end))
    assert isinstance(failure(lambda: load(lease, "parquet")), FileNotFoundError)
    assert read == [100], "half a table is not taken for the whole"
    decisions = [event["decision"] for event in reads_of(lease)]
    assert decisions[0] == "allow" and decisions[-1] == "deny" and decisions == sorted(decisions)


def failure(read):
    """What the client's reader of files raises, at once."""
    began = time.monotonic()
    with pytest.raises(Exception) as raised:
        read()
    assert time.monotonic() - began < AT_ONCE_SECONDS, "it tried again"
    return raised.value


def reads_of(lease):
    path = f"/audit?action=file.read&recipient={lease.name}&order=asc&max_results=1000"
    return lease.server.admin("GET", path)["items"]
