"""The PostgreSQL that WEIR_TEST_POSTGRES names: databases of its own for each server, and the cores that it runs on."""

import glob
import os
import pathlib
import shutil
import subprocess
import urllib.parse

from bench import Failed


class Postgres:
    def __init__(self):
        url = os.environ.get("WEIR_TEST_POSTGRES")
        self.psql = shutil.which("psql") or next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))[::-1]), None)
        if not url or not self.psql:
            raise Failed("PostgreSQL and psql are needed: run under tests/setup/with-services, as `make bench` does")
        self.url, self.made = urllib.parse.urlsplit(url), []

    def run(self, script):
        environment = {
            **os.environ, "PGHOST": self.url.hostname, "PGPORT": str(self.url.port or 5432),
            "PGUSER": urllib.parse.unquote(self.url.username or ""), "PGPASSWORD": urllib.parse.unquote(self.url.password or ""),
            "PGDATABASE": self.url.path.strip("/"),
        }
        command = [self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        ended = subprocess.run(command, input=script, env=environment, capture_output=True, text=True)
        if ended.returncode != 0:
            raise Failed(f"psql: {ended.stderr}")
        return ended.stdout.strip()

    def create(self, name):
        """The URL of a new, empty database."""
        name = f"weir_bench_{os.getpid()}_{name}"
        self.run(f"CREATE DATABASE {name}")
        self.made.append(name)
        return self.url._replace(path=f"/{name}").geturl()

    def drop_all(self):
        for name in self.made:
            self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.made = []

    def version(self):
        return self.run("SHOW server_version")

    def settings(self):
        return self.run("SELECT name || ' = ' || setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') ORDER BY 1")

    def move(self, cores):
        """Has its processes, and those that it starts from now on, run on `cores` alone; says whether it can be done."""
        script = "SELECT pg_backend_pid() AS pid \\gset\n\\setenv BACKEND :pid\n\\! sed -n 's/^PPid:[[:space:]]*//p' /proc/$BACKEND/status\n"
        try:
            postmaster = int(self.run(script))
            if "postgres" not in pathlib.Path(f"/proc/{postmaster}/comm").read_text():
                return False
            children = pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            for pid in [postmaster, *map(int, children)]:
                try:
                    os.sched_setaffinity(pid, cores)
                except ProcessLookupError:
                    pass
            return True
        except (ValueError, OSError):
            return False
