"""`weir import`: every name that a reference server starts with ends in a read by the pandas client."""

import json
import os
import subprocess

import delta_sharing
import rows
import weir

# None of these keeps a reference server from starting.
NAMES = ["plain", "raw.claims", "a b", "a/b", "a#b", "50%", "what?", "", "PLAIN", "größe", "n" * 300, "x@y", "{z}", "a&b=c", "..", "a+b"]

# One of its own: what other tests' partner sees stays as it is.
RECIPIENT = "importer"


def imported(server, directory, location):
    """What `weir import` says of a file in which shares, schemas and tables have all these names."""
    shares = []
    for n, share in enumerate(NAMES):
        if share == "PLAIN":
            continue  # Two shares of one name are refused there, too.
        tables = [{"name": name, "location": location} for name in (NAMES if n == 0 else ["t"])]
        schemas = [{"name": name, "tables": tables if i == 0 else tables[:1]} for i, name in enumerate(NAMES if n == 0 else [share])]
        shares.append({"name": share, "schemas": schemas})
    file = directory / "delta-sharing-server.yaml"
    file.write_text(json.dumps({"version": 1, "shares": shares}))
    env = {**os.environ, "WEIR_URL": server.url, "WEIR_TOKEN": weir.BOOTSTRAP_TOKEN}
    command = [str(weir.binary()), "import", str(file), "--recipient", RECIPIENT, "--output", "json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), sum(len(schema["tables"]) for share in shares for schema in share["schemas"])


def test_every_name_that_a_reference_server_starts_with_ends_in_a_read(server, tables, tmp_path):
    location = tables / "several_commits"
    server.admin("PUT", f"/recipients/{RECIPIENT}", {})
    profile = tmp_path / "importer.share"
    profile.write_text(json.dumps(server.admin("POST", f"/recipients/{RECIPIENT}/tokens", {"reveal": True})["profile"]))
    said, n_tables = imported(server, tmp_path, f"file://{location}")
    objects = [step for step in said["steps"] if step["kind"] == "object"]
    assert len(objects) == n_tables
    client = delta_sharing.SharingClient(str(profile))
    names = {name for step in said["steps"] if step["kind"] == "share" for name in [step["name"]]}
    listed = [table for table in client.list_all_tables() if table.share in names]
    assert len(listed) == n_tables
    expected = rows.of_delta(str(location))
    for table in listed:
        url = f"{profile}#{table.share}.{table.schema}.{table.name}"
        assert rows.of_pandas(delta_sharing.load_as_pandas(url)) == expected, url
    told = " ".join(note["message"] for note in said["notes"])
    for name in ["raw.claims", "a b", "a/b", "50%"]:
        assert f"`{name}` becomes `" in told, name
