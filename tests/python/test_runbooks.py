"""The runbooks, tried as written: each is opened in the incident that it is for, and every command that it shows is run."""

import contextlib
import datetime
import http.server
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.parse
import uuid

import conftest
import lake
import pyarrow
import pytest
import requests
import weir
from deltalake import write_deltalake

RUNBOOKS = weir.ROOT / "docs" / "runbooks"
EXPORT = '\n[audit.export]\nurl = "file://{directory}/export"\n'
WEBHOOK_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def until(what, probe):
    """What `probe` finds in the end."""
    deadline = time.monotonic() + 60
    while not (found := probe()):
        assert time.monotonic() < deadline, f"there is no {what}"
        time.sleep(0.05)
    return found


class Runbook:
    """The text of a runbook, and which of its commands were run."""

    def __init__(self, name, server):
        self.text = (RUNBOOKS / name).read_text()
        self.untried = re.findall(r"`(weir [^`]+)`", self.text)
        self.server = server

    def run(self, beginning, exits=0, **values):
        """Runs the one command that begins so, as it stands there but for what is left to the reader; what it says."""
        [command] = [command for command in self.untried if command.startswith(beginning)]
        self.untried.remove(command)
        return self.run_again(command, exits, **values)

    def run_again(self, command, exits=0, **values):
        for name, value in {"…": "TEXT", "TEXT": "tried", **values}.items():
            command = command.replace(name, value)
        words = [str(weir.binary()), *command.split()[1:]]
        env = {"WEIR_URL": self.server.url, "WEIR_TOKEN": weir.BOOTSTRAP_TOKEN, "COLUMNS": "400"}
        done = subprocess.run(
            words, cwd=self.server.directory, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == exits, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def doctor(self, check, is_well=False):
        """Runs `weir doctor`, which finds fault with `check`, or with nothing; its line."""
        command = "weir doctor --config weir.toml"
        said = (self.run if command in self.untried else self.run_again)(command, exits=0 if is_well else 1)
        line = next(line for line in said.splitlines() if re.match(rf"\w+ +{check}", line))
        assert is_well != line.startswith("FAIL"), said
        return line


class Gate:
    """A way to an address that can be shut."""

    def __init__(self, host, port):
        self.target, self.open, self.connections = (host, port), True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if not self.open:
                    client.close()
                    continue
                target = socket.create_connection(self.target)
                self.connections += [client, target]
                for pair in [(client, target), (target, client)]:
                    threading.Thread(target=weir.pass_on, args=pair, daemon=True).start()

    def shut(self):
        self.open = False
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.shut()
        self.listener.close()


class Receiver:
    """A receiver of webhooks that answers with `status`."""

    def __init__(self, status):
        self.status, self.taken = status, 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                receiver.taken += receiver.status < 300
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Ground:
    """What an incident happens on."""

    def __init__(self, request, stack, directory):
        self.request, self.stack, self.directory = request, stack, directory

    def open(self, runbook, storages=(), database=None, more=""):
        """A server that runs, and the runbook to it."""
        local = f'name = "lake"\nurl = "file://{self.directory}/lake"'
        (self.directory / "lake").mkdir()
        more = EXPORT.format(directory=self.directory) + more
        server = weir.Server(self.directory, [local, *storages], database, more=more)
        self.request.config.stash[conftest.servers].append(server)
        self.stack.callback(server.stop)
        server.start()
        return Runbook(runbook, server)

    def gate(self, url):
        parts = urllib.parse.urlsplit(url)
        gate = Gate(parts.hostname, parts.port)
        self.stack.callback(gate.close)
        return gate, url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{gate.port}")

    def open_on_s3(self, runbook):
        """A server with a table on an object store, and the way to that."""
        s3 = self.request.getfixturevalue("s3")
        location = f"s3://{conftest.S3_BUCKET}/{self.directory.name}/partitioned"
        write_deltalake(location, lake.partitioned(), partition_by=["part"], storage_options=s3.options)
        gate, endpoint = self.gate(s3.endpoint)
        options = ", ".join(f'{key} = "{value}"' for key, value in {**s3.options, "aws_endpoint": endpoint}.items())
        book = self.open(runbook, [f'name = "far"\nurl = "s3://{conftest.S3_BUCKET}"\noptions = {{ {options} }}'])
        return book, gate, book.server.share(location)

    def write(self, name, columns=None, **options):
        location = self.directory / "lake" / name
        write_deltalake(location, pyarrow.table(columns or {"id": list(range(10))}), **options)
        return location


def metric(server, sample):
    page = requests.get(f"{server.url}/metrics", timeout=10).text
    return next((float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{sample} ")), None)


def an_hour_ago():
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def audit_slow(ground):
    return ground.open("audit-slow.md")


def read(server, sql):
    with contextlib.closing(sqlite3.connect(server.directory / "weir.db")) as db:
        return db.execute(sql).fetchone()[0]


def sealed(server):
    return read(server, "SELECT max(seq) FROM audit_checkpoints")


def newest(server):
    return read(server, "SELECT max(seq) FROM audit_events")


def checkpoint_late(ground):
    book = ground.open("checkpoint-late.md", more="\n[audit]\ncheckpoint_seconds = 86400\n")
    server = book.server
    # The first events of all are sealed at once; the next ones are not for a day.
    until("checkpoint", lambda: sealed(server))
    server.admin("PUT", "/shares/another", {})
    assert sealed(server) < newest(server)
    verify = "weir audit verify --config weir.toml"
    assert "verified" in book.run_again(verify)
    book.run("weir audit checkpoint")
    assert sealed(server) == newest(server)
    with contextlib.closing(sqlite3.connect(server.directory / "weir.db")) as db, db:
        db.execute("DROP TRIGGER audit_events_no_update")
        db.execute("UPDATE audit_events SET body = replace(body, 'partner', 'nobody0') WHERE seq = 3")
    assert "3" in book.run(verify, exits=1)
    book.run("weir freeze")
    assert requests.get(f"{server.url}/delta-sharing/shares", headers=bearer(server), timeout=10).status_code == 403
    book.run("weir unfreeze")
    assert requests.get(f"{server.url}/delta-sharing/shares", headers=bearer(server), timeout=10).status_code == 200
    return book


def bearer(server):
    return {"authorization": f"Bearer {server.token}"}


def governed(ground, book):
    """A view, none of whose copies is made yet, and the table behind it."""
    location = ground.write("claims", {"id": [1, 2], "note": ["a secret", "another"]})
    columns = [{"name": "id"}, {"name": "note", "mask": "redact"}]
    return book.server.share_view(f"file://{location}", "claims", columns), location


def copies_disagree(ground):
    book = ground.open("copies-disagree.md")
    view, _ = governed(ground, book)
    until("answer", lambda: book.server.query(view).ok)
    [copy] = (path for path in (ground.directory / "copies").rglob("*") if path.is_file())
    orphan = copy.with_name("nobodys")
    copy.rename(orphan)
    # Old enough that nobody is just writing it.
    os.utime(orphan, (0, 0))
    said = book.run("weir copy reconcile")
    assert orphan.name in said, said
    assert (metric(book.server, "weir_copies_missing"), metric(book.server, "weir_copies_orphaned")) == (1, 1)
    orphan.unlink()
    assert until("copy made anew", lambda: book.server.query(view).ok)
    book.run_again("weir copy reconcile")
    assert (metric(book.server, "weir_copies_missing"), metric(book.server, "weir_copies_orphaned")) == (0, 0)
    return book


def copies_failing(ground):
    book = ground.open("copies-failing.md")
    location = ground.write("claims", {"id": [1, 2], "note": ["a secret", "another"]})
    [source] = location.glob("*.parquet")
    kept = source.read_bytes()
    source.write_bytes(b"\0" * len(kept))
    columns = [{"name": "id"}, {"name": "note", "mask": "redact"}]
    view = book.server.share_view(f"file://{location}", "claims", columns)
    until("failure", lambda: not book.server.query(view).ok and metric(book.server, "weir_copies_failed_total"))
    refused = book.server.query(view)
    assert refused.status_code >= 400 and "secret" not in refused.text
    said = book.run("weir copy list")
    assert source.name in said and "claims" in said, said
    assert "copy.id" in book.server.log()
    write_deltalake(location, pyarrow.table({"id": [3], "note": ["new"]}), mode="overwrite")
    assert until("answer after the table was mended", lambda: book.server.query(view).ok)
    return book


def dead_letters(ground):
    receiver = Receiver(500)
    ground.stack.callback(receiver.close)
    secret = ground.directory / "secret"
    secret.write_text(WEBHOOK_SECRET)
    secret.chmod(0o600)
    hook = f'name = "ops"\nurl = "{receiver.url}"\nsecret_file = "{secret}"\nevents = ["freeze.create"]\n'
    book = ground.open("dead-letters.md", more=f"\n[notify]\nattempts = 1\n[[notify.webhook]]\n{hook}")
    dead = 'weir_notification_attempts_total{webhook="ops",outcome="dead"}'
    assert metric(book.server, dead) == 0
    book.server.admin("POST", "/freeze", {"reason": "an incident"})
    until("dead letter", lambda: metric(book.server, dead) == 1)
    said = book.run("weir notification list")
    assert "ops" in said and "500" in said, said
    ping = "weir notify test NAME --config weir.toml"
    assert "500" in book.run_again(ping, exits=1, NAME="ops")
    receiver.status = 204
    book.run(ping, NAME="ops")
    [letter] = book.server.admin("GET", "/notifications?state=dead")["items"]
    book.run("weir notification retry", ID=letter["id"])
    until("delivery", lambda: receiver.taken == 2)
    return book


def dead_jobs(ground):
    book = ground.open("dead-jobs.md")
    server, dead = book.server, 'weir_jobs{kind="report",state="dead"}'
    until("metric", lambda: metric(server, dead) == 0)
    # A report that a server left to be made, of a month that cannot be counted.
    month, nobody, id = "2020-01", uuid.UUID(int=0), uuid.uuid4()
    asked = "INSERT INTO reports (id, month, recipient_id, state, requested_by, requested_at) VALUES (?, ?, ?, 'making', 'ann', 0)"
    with contextlib.closing(sqlite3.connect(ground.directory / "weir.db")) as db, db:
        db.execute(asked, (id.bytes, month, nobody.bytes))
    server.restart()
    until("dead job", lambda: metric(server, dead) == 1)
    said = book.run("weir job list")
    assert str(id) in said and "before the audit trail began" in said, said
    assert month in book.run("weir report list")
    assert "job.dead" in book.run("weir audit list")
    assert book.doctor("jobs", is_well=True).startswith("warn")
    # What was wrong is mended: the month can be counted.
    with contextlib.closing(sqlite3.connect(ground.directory / "weir.db")) as db, db:
        db.execute("UPDATE reports SET month = strftime('%Y-%m', 'now')")
    [job] = server.admin("GET", "/jobs?state=dead")["items"]
    book.run("weir job retry", ID=job["id"])
    until("report", lambda: server.admin("GET", f"/reports/{id}")["state"] == "ready")
    until("job that is done", lambda: metric(server, dead) == 0)
    assert server.admin("GET", "/jobs")["items"] == []
    return book


def denial_burst(ground):
    book = ground.open("denial-burst.md")
    server = book.server
    since = an_hour_ago()
    for _ in range(5):
        requests.get(f"{server.url}/delta-sharing/shares", headers={"authorization": "Bearer guessed"}, timeout=10)
    server.admin("PATCH", "/recipients/partner", {"allowed_cidrs": ["198.51.100.0/24"]})
    assert requests.get(f"{server.url}/delta-sharing/shares", headers=bearer(server), timeout=10).status_code == 403
    server.admin("PATCH", "/recipients/partner", {"allowed_cidrs": []})
    said = book.run("weir audit list", TEXT=since)
    assert "TOKEN_UNKNOWN" in said and "ADDRESS_NOT_ALLOWED" in said and "partner" in said, said
    for reason in re.findall(r"`([A-Z]+_[A-Z_]+)`", book.text):
        assert reason in (weir.ROOT / "src" / "domain" / "access" / "decision.rs").read_text(), reason
    book.run("weir recipient suspend", NAME="partner")
    assert requests.get(f"{server.url}/delta-sharing/shares", headers=bearer(server), timeout=10).status_code == 403
    book.run("weir recipient resume", NAME="partner")
    assert requests.get(f"{server.url}/delta-sharing/shares", headers=bearer(server), timeout=10).status_code == 200
    return book


def down(ground):
    book = ground.open("down.md")
    server = book.server
    address = server.url.removeprefix("http://")
    health = next(command for command in book.untried if command.startswith("weir health"))
    book.run_again(health, **{"SERVER:8080": address})
    database = ground.request.getfixturevalue("new_database")()
    beside = pathlib.Path(shutil.copy(server.config, ground.directory / "other.toml"))
    last_lines = []

    def last_line(config, *changes):
        for change in changes:
            config = config.replace(*change)
        beside.write_text(config)
        ended = subprocess.run([str(weir.binary()), "serve", "--config", str(beside)], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 1, ended.stderr
        last_lines.append(ended.stderr)

    config = server.config.read_text()
    elsewhere = (f'listen = "{address}"', f'listen = "127.0.0.1:{weir.free_port()}"')
    last_line(config, elsewhere)
    last_line(config, elsewhere, (f"sqlite://{server.directory}/weir.db", database))
    server.stop()
    foreign = ground.directory / "foreign.key"
    foreign.write_bytes(os.urandom(32))
    foreign.chmod(0o600)
    last_line(config, ("weir.key", "foreign.key"))
    quoted = re.search(r"says why \((.*?)\)\.", book.text)[1]
    for quote in re.findall(r"`([^`]+)`", quoted):
        parts = [part.strip() for part in quote.split("…")]
        assert any(all(part in line.replace("`", "") for part in parts) for line in last_lines), f"{quote}: {last_lines}"

    book.run(health, exits=1, **{"SERVER:8080": address})
    server.config.write_text(config.replace("weir.key", "foreign.key"))
    book.doctor("key age")
    server.config.write_text(config)
    server.serve()
    book.run_again(health, **{"SERVER:8080": address})
    book.doctor("keys", is_well=True)
    return book


def export_failing(ground):
    book = ground.open("export-failing.md", more="\n[audit]\ncheckpoint_seconds = 1\n")
    server = book.server
    export, aside = ground.directory / "export", ground.directory / "aside"
    until("exported checkpoint", lambda: (export / "checkpoints").exists())
    # The target is gone: a file has its name.
    export.rename(aside)
    export.write_text("")
    server.admin("PUT", "/shares/another", {})
    until("checkpoint without export", lambda: sealed(server) == newest(server))
    book.doctor("export")
    export.unlink()
    aside.rename(export)
    until("export", lambda: read(server, "SELECT count(*) FROM audit_checkpoints WHERE exported_at IS NULL") == 0)
    book.doctor("export", is_well=True)
    return book


def not_ready(ground):
    gate, url = ground.gate(ground.request.getfixturevalue("new_database")())
    book = ground.open("not-ready.md", database=url)
    server = book.server
    table = server.share(f"file://{ground.write('plain')}")
    gate.shut()
    assert requests.get(f"{server.url}/readyz", timeout=30).status_code == 503
    assert server.query(table).status_code == 503
    assert metric(server, "weir_database_up") == 0
    book.doctor("database")
    gate.open = True
    until("recovery without a restart", server.is_ready)
    assert server.query(table).ok
    assert metric(server, "weir_database_up") == 1
    book.doctor("database", is_well=True)
    return book


def schema_hold(ground):
    book = ground.open("schema-hold.md")
    location = ground.write("claims")
    table = book.server.share(f"file://{location}")
    schema, name = table.split(".")
    book.server.admin("PATCH", f"/shares/lake/objects/{schema}/{name}", {"on_schema_change": "hold"})
    write_deltalake(location, pyarrow.table({"id": [1], "salary": [2]}), mode="append", schema_mode="merge")
    assert "salary" not in book.server.query(table).text
    place = {"SHARE": "lake", "SCHEMA": schema, "NAME": name}
    said = book.run("weir object get", **place)
    assert "schema_hold" in said and "column salary added" in said and "serving_version" in said, said
    assert metric(book.server, "weir_objects_on_hold") == 1
    book.run("weir object accept-schema", **place)
    assert "salary" in book.server.query(table).text
    return book


def server_errors(ground):
    book, gate, table = ground.open_on_s3("server-errors.md")
    since = an_hour_ago()
    gate.shut()
    answer = book.server.query(table)
    assert answer.status_code == 503
    said = book.run("weir audit list", TEXT=since)
    assert "UNAVAILABLE" in said, said
    assert answer.headers["x-request-id"] in book.server.log()
    return book


def slow(ground):
    book = ground.open("slow.md")
    assert book.server.query(book.server.share(f"file://{ground.write('cold')}")).ok
    book.run("weir recipient update", NAME="partner")
    assert book.server.admin("GET", "/recipients/partner")["limits"]["requests_per_minute"] == 600
    return book


def storage_errors(ground):
    book, gate, table = ground.open_on_s3("storage-errors.md")
    gate.shut()
    answer = book.server.query(table)
    assert answer.status_code == 503 and "retry-after" in answer.headers
    assert book.server.is_ready()
    assert metric(book.server, 'weir_storage_errors_total{storage="far"}') >= 1
    book.doctor("storage far")
    secret = ground.request.getfixturevalue("s3").options["aws_secret_access_key"]
    assert f"127.0.0.1:{gate.port}" in book.server.log() and secret not in book.server.log()
    gate.open = True
    assert book.server.query(table).ok
    book.doctor("storage far", is_well=True)
    return book


def usage_behind(ground):
    book = ground.open("usage-behind.md")
    assert book.server.query(book.server.share(f"file://{ground.write('plain')}")).ok
    book.run("weir usage verify")
    assert "RECIPIENT" in book.run("weir usage")
    return book


INCIDENTS = {
    name.replace("_", "-") + ".md": incident
    for name, incident in list(globals().items())
    if (RUNBOOKS / (name.replace("_", "-") + ".md")).exists()
}


@pytest.mark.parametrize("name", sorted(path.name for path in RUNBOOKS.glob("*.md") if path.name != "README.md"))
def test_runbook_does_what_it_says(request, tmp_path, name):
    with contextlib.ExitStack() as stack:
        book = INCIDENTS[name](Ground(request, stack, tmp_path))
        assert book.untried == []
        page = requests.get(f"{book.server.url}/metrics", timeout=10).text
        for named in re.findall(r"\bweir_[a-z_]+", book.text):
            assert re.search(rf"^{named}", page, re.MULTILINE), f"there is no metric {named}"
