"""A database restored from a backup, as docs/operations.md says: what was revoked since stays revoked, and the trail whole."""

import contextlib
import glob
import os
import pathlib
import shutil
import sqlite3
import subprocess

import pytest
import requests
import weir


def program(name):
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)
    assert found, f"{name} is not here; it comes with PostgreSQL"
    return found


class Sqlite:
    def __init__(self, directory):
        self.file, self.kept, self.url = directory / "weir.db", directory / "backup.db", None

    def back_up(self):
        with contextlib.closing(sqlite3.connect(self.file)) as source, contextlib.closing(sqlite3.connect(self.kept)) as target:
            source.backup(target)

    def restore(self):
        for suffix in ["", "-wal", "-shm"]:
            pathlib.Path(f"{self.file}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.kept, self.file)


class Postgres:
    def __init__(self, directory, url):
        self.kept, self.url = directory / "backup.dump", url

    def back_up(self):
        subprocess.run([program("pg_dump"), "--format=custom", f"--file={self.kept}", self.url], check=True)

    def restore(self):
        subprocess.run(
            [program("pg_restore"), "--clean", "--if-exists", "--exit-on-error", f"--dbname={self.url}", self.kept], check=True
        )


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request, tmp_path):
    """What keeps the database, and how it is backed up."""
    return Sqlite(tmp_path) if request.param == "sqlite" else Postgres(tmp_path, request.getfixturevalue("new_database")())


@pytest.fixture
def server(kept, tmp_path):
    export = f'\n[audit.export]\nurl = "file://{tmp_path}/export"\n'
    server = weir.Server(tmp_path, [], kept.url, more=export)
    yield server
    server.stop()


def status(server, token):
    return requests.get(f"{server.url}/delta-sharing/shares", headers={"authorization": f"Bearer {token}"}, timeout=60).status_code


def issue(server, recipient):
    server.admin("PUT", f"/recipients/{recipient}", {})
    grant = server.admin("POST", "/grants", {"share": "lake", "recipient": recipient})
    return grant["id"], server.admin("POST", f"/recipients/{recipient}/tokens", {"reveal": True})


def verify(server, *arguments):
    command = [str(weir.binary()), "audit", "verify", "--config", str(server.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_what_was_revoked_after_a_backup_stays_revoked_when_it_is_restored(server, kept):
    server.start()
    ended, _ = issue(server, "ended")
    _, leaked = issue(server, "leaked")
    _, suspended = issue(server, "suspended")
    _, moved = issue(server, "moved")
    kept.back_up()

    server.admin("POST", f"/grants/{ended}/revoke", {"reason": "the contract is over"})
    server.admin("POST", f"/recipients/leaked/tokens/{leaked['id']}/revoke", {"reason": "it leaked"})
    server.admin("POST", "/recipients/suspended/suspend", {"reason": "an incident"})
    server.admin("POST", "/recipients/moved/suspend", {"reason": "an incident"})
    server.admin("POST", "/recipients/moved/resume", {"reason": "it was none"})
    server.admin("PUT", "/recipients/late", {})
    server.stop()
    events = verify(server)
    assert events.returncode == 0, events.stderr
    kept.restore()

    server.serve()
    assert "the database is behind its audit export" in server.log()
    assert "recipient.create" in server.log(), "what was lost is named"
    assert {status(server, token) for token in [server.token, moved["token"], suspended["token"]]} == {403}
    server.admin("POST", "/unfreeze", {"reason": "looked at what was lost"})
    assert status(server, server.token) == status(server, moved["token"]) == 200
    assert status(server, leaked["token"]) == 401
    assert status(server, suspended["token"]) == 403
    assert server.admin("GET", f"/grants/{ended}")["state"] == "revoked"
    assert server.try_admin("GET", "/recipients/late").status_code == 404, "what was made since is lost, and was told"
    recovered = server.admin("GET", "/audit?action=audit.recover")["items"]
    assert [event["change"]["is_fork"] for event in recovered] == [False]
    # The export goes on, with what it proved and what came after.
    server.restart()
    assert "unfrozen" not in server.log()
    assert status(server, server.token) == 200
    server.stop()
    for found in [verify(server), verify(server, "--since-checkpoint")]:
        assert found.returncode == 0, found.stderr


def rotate(server):
    """Puts a new root key in front of the others."""
    key = server.directory / "weir-2.key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    server.config.write_text(server.config.read_text().replace('key_files = ["', f'key_files = ["{key}", "'))


@pytest.mark.parametrize("activated", ["before_the_loss", "by_the_restore"])
def test_a_root_key_that_the_backup_does_not_know_makes_no_fork(server, kept, activated):
    server.start()
    _, leaked = issue(server, "leaked")
    kept.back_up()
    if activated == "before_the_loss":
        server.stop()
        rotate(server)
        server.serve()
    server.admin("POST", f"/recipients/leaked/tokens/{leaked['id']}/revoke", {"reason": "it leaked"})
    server.stop()
    kept.restore()
    if activated == "by_the_restore":
        rotate(server)

    server.serve()
    assert "the trail was taken over from the export" in server.log()
    server.admin("POST", "/unfreeze", {"reason": "looked at what was lost"})
    assert status(server, leaked["token"]) == 401
    assert status(server, server.token) == 200
    recovered = server.admin("GET", "/audit?action=audit.recover")["items"]
    assert [event["change"]["is_fork"] for event in recovered] == [False]
    newest = server.admin("GET", "/audit?action=key.activate")["items"][0]
    assert newest["seq"] > recovered[0]["seq"], "the restored database has come to its key"
    server.stop()
    found = verify(server)
    assert found.returncode == 0, found.stderr


def test_a_restored_database_that_went_on_by_itself_is_frozen_and_told_apart(server, kept):
    server.start()
    _, leaked = issue(server, "leaked")
    kept.back_up()
    server.admin("POST", f"/recipients/leaked/tokens/{leaked['id']}/revoke", {"reason": "it leaked"})
    server.stop()
    kept.restore()
    # Somebody starts it without its export first.
    config = server.config.read_text()
    server.config.write_text(config.partition("\n[audit.export]")[0])
    server.serve()
    assert status(server, leaked["token"]) == 200
    server.stop()
    server.config.write_text(config)
    server.serve()
    assert "name another audit.export.url" in server.log()
    assert status(server, server.token) == 403
    server.admin("POST", "/unfreeze", {"reason": "looked at what was lost"})
    assert status(server, leaked["token"]) == 401
    assert status(server, server.token) == 200


def test_the_export_of_another_database_is_refused(server, kept, tmp_path):
    server.start()
    server.stop()
    other = tmp_path / "other"
    other.mkdir()
    stranger = weir.Server(other, [], more=f'\n[audit.export]\nurl = "file://{tmp_path}/export"\n')
    (other / "weir.key").write_bytes((tmp_path / "weir.key").read_bytes())
    with pytest.raises(RuntimeError, match="holds the trail of another database"):
        stranger.serve()
