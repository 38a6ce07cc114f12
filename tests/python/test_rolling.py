"""Two replicas behind a load balancer are restarted one after another, and no client notices."""

import contextlib
import random
import socket
import threading
import time

import conftest
import delta_sharing
import pytest
import requests
import weir
from deltalake import DeltaTable

# How often the balancer asks whether a replica is ready, and how long a replica goes on meanwhile.
PROBE_SECONDS = 0.2
DRAIN_SECONDS = 2


class Balancer:
    """Passes each connection on to a replica that was ready when it was last asked. It never tries a second one: whatever a
    replica refuses or breaks off is its client's failure."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.replicas, self.ready, self.stopping = [], [], threading.Event()

    def __enter__(self):
        self.look()
        for work in [self.probe, self.accept]:
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.listener.close()

    def look(self):
        self.ready = [replica for replica in self.replicas if replica.is_ready()]

    def probe(self):
        while not self.stopping.wait(PROBE_SECONDS):
            self.look()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        try:
            replica = socket.create_connection(("127.0.0.1", random.choice(self.ready).port))
        except (IndexError, OSError):
            client.close()
            return
        threading.Thread(target=weir.pass_on, args=(replica, client), daemon=True).start()
        weir.pass_on(client, replica)


class Clients:
    """What partners do, over and over, and what went wrong for them. Nothing here tries again."""

    def __init__(self, *reads):
        self.faults, self.reads, self.stopping = [], dict.fromkeys(reads, 0), threading.Event()
        self.threads = [threading.Thread(target=self.repeat, args=(read,)) for read in reads]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def repeat(self, read):
        while not self.stopping.is_set():
            try:
                read()
                self.reads[read] += 1
            except Exception as error:  # noqa: BLE001, whatever it is, a client saw it
                self.faults.append(f"{read.__name__}: {error!r}")

    def wait_for_more(self):
        """Waits until every kind of read has succeeded again, or something went wrong."""
        before = dict(self.reads)
        deadline = time.monotonic() + 60
        while not self.faults and any(self.reads[read] <= before[read] + 1 for read in before):
            assert time.monotonic() < deadline, "clients came to a standstill"
            time.sleep(0.01)


@pytest.fixture
def balancer():
    with Balancer() as balancer:
        yield balancer


@pytest.fixture
def replicas(request, balancer, tables, new_database, tmp_path):
    """Two servers on one database with one key, behind the balancer."""
    storages, database = [f'name = "local"\nurl = "file://{tables}"'], new_database()
    for name in ["first", "second"]:
        (tmp_path / name).mkdir()
        replica = weir.Server(tmp_path / name, storages, database, public_url=balancer.url, drain_seconds=DRAIN_SECONDS)
        (tmp_path / name / "weir.key").write_bytes((tmp_path / "first" / "weir.key").read_bytes())
        request.config.stash[conftest.servers].append(replica)
        balancer.replicas.append(replica)
    first, second = balancer.replicas
    first.start()
    second.serve()
    balancer.look()
    yield balancer.replicas
    for replica in balancer.replicas:
        replica.stop()


def test_replicas_are_restarted_one_after_another_without_a_failed_request(replicas, balancer, tables):
    first = replicas[0]
    table = first.share(f"file://{tables}/several_commits")
    expected = len(DeltaTable(str(tables / "several_commits")).to_pandas())
    schema, name = table.split(".")
    query_url = f"{balancer.url}/delta-sharing/shares/lake/schemas/{schema}/tables/{name}/query"
    headers = {"authorization": f"Bearer {first.token}"}
    kept = requests.Session()

    def over_a_kept_connection():
        answer = kept.post(query_url, json={}, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text

    def over_a_new_connection():
        answer = requests.post(query_url, json={}, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text

    def with_pandas():
        assert len(delta_sharing.load_as_pandas(first.table_url(table))) == expected

    with Clients(over_a_kept_connection, over_a_new_connection, with_pandas) as clients:
        clients.wait_for_more()
        for replica in replicas:
            replica.restart()
            balancer.look()
            clients.wait_for_more()
    assert clients.faults == []
    assert all(reads > 3 for reads in clients.reads.values()), clients.reads
    assert all("draining" in replica.log() for replica in replicas)
