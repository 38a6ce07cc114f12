"""A recipient whose tokens come from an issuer: the pandas client with the profile that the server made, end to end."""

import json
import uuid

import delta_sharing
import issuer
import pytest
import requests
import rows
import weir

TABLE = "all_types"


@pytest.fixture(scope="module")
def partners_issuer():
    started = issuer.Issuer()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def federated(request, tmp_path_factory, tables, partners_issuer):
    """A server that believes the issuer, with one table shared with the recipient `federated`."""
    database = request.getfixturevalue("new_database")() if request.param == "postgres" else None
    storages = [f'name = "local"\nurl = "file://{tables}"']
    server = weir.Server(tmp_path_factory.mktemp("weir"), storages, database, more=partners_issuer.settings())
    try:
        server.start()
        server.table = server.share(f"file://{tables / TABLE}")
        # The client keeps what it got for a profile, and each server of the module asks anew.
        client = f"reader-{uuid.uuid4().hex}"
        partners_issuer.clients[client] = uuid.uuid4().hex
        identity = {"issuer": partners_issuer.url, "audience": issuer.AUDIENCE, "claim": "azp", "value": client}
        server.admin("PUT", "/recipients/federated", {"oidc": identity})
        server.admin("POST", "/grants", {"share": "lake", "recipient": "federated"})
        server.client = client
        yield server
    finally:
        server.stop()


def write_profile(server, partners_issuer, path, **changes):
    """What the partner does: it takes the server's profile and fills in its secret."""
    profile = server.admin("GET", "/recipients/federated/profile")
    assert profile["clientSecret"] == "<client secret>"
    profile["clientSecret"] = partners_issuer.clients[server.client]
    path.write_text(json.dumps({**profile, **changes}))
    return path


def test_pandas_reads_with_the_generated_profile(federated, partners_issuer, tables, tmp_path):
    profile = write_profile(federated, partners_issuer, tmp_path / "federated.share")
    assert json.loads(profile.read_text())["shareCredentialsVersion"] == 2
    client = delta_sharing.SharingClient(str(profile))
    assert [share.name for share in client.list_shares()] == ["lake"]
    assert federated.table in [f"{table.schema}.{table.name}" for table in client.list_all_tables()]
    for delta_format in [True, False]:
        read = delta_sharing.load_as_pandas(f"{profile}#lake.{federated.table}", use_delta_format=delta_format)
        assert rows.of_pandas(read) == rows.of_delta(str(tables / TABLE))
    assert partners_issuer.issued.count(federated.client) == 1, "one token serves them all"
    event = federated.admin("GET", "/audit?action=table.query&recipient=federated&max_results=1")["items"][0]
    assert event["decision"] == "allow" and event["subject"] == f"service-{federated.client}"
    identity = federated.admin("GET", "/recipients/federated")["oidc"]
    assert event["token_id"] == identity["id"]
    assert federated.client not in federated.log() and "eyJ" not in federated.log()


def test_a_wrong_secret_gets_no_token(federated, partners_issuer, tmp_path):
    profile = write_profile(federated, partners_issuer, tmp_path / "wrong.share", clientSecret="wrong")
    with pytest.raises(requests.HTTPError) as refusal:
        delta_sharing.SharingClient(str(profile)).list_shares()
    assert refusal.value.response.status_code == 401 and refusal.value.response.url.endswith("/token")


def test_another_client_of_the_same_issuer_is_nobody(federated, partners_issuer, tmp_path):
    partners_issuer.clients["stranger"] = "a secret"
    changes = {"clientId": "stranger", "clientSecret": "a secret", "endpoint": f"{federated.url}/delta-sharing/"}
    profile = write_profile(federated, partners_issuer, tmp_path / "stranger.share", **changes)
    with pytest.raises(requests.HTTPError) as refusal:
        delta_sharing.SharingClient(str(profile)).list_shares()
    assert refusal.value.response.status_code == 401
    assert "tell the data provider the client" in refusal.value.response.text


def test_suspending_the_recipient_ends_a_token_that_the_issuer_still_believes(federated, partners_issuer, tmp_path):
    profile = write_profile(federated, partners_issuer, tmp_path / "suspended.share")
    client = delta_sharing.SharingClient(str(profile))
    assert client.list_shares()
    federated.admin("POST", "/recipients/federated/suspend", {"reason": "test"})
    with pytest.raises(requests.HTTPError) as refusal:
        client.list_shares()
    assert refusal.value.response.status_code == 403
    federated.admin("POST", "/recipients/federated/resume", {"reason": "test"})
    assert client.list_shares()


def test_a_token_for_partners_opens_no_admin_api(federated, partners_issuer):
    token = partners_issuer.token(federated.client)
    answer = requests.get(f"{federated.url}/api/v1/whoami", headers={"authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == 401
