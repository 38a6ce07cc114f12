"""What every measurement needs: the built programs, a folder, tables, an S3 server, and an end to everything started."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}
PROGRAMS = ["generate", "load", "yardsticks", "yardstick_server", "s3_server"]


class Failed(Exception):
    """Something that was started did not do its work; the message says what to look at."""


class Bench:
    """One run of the benchmarks."""

    def __init__(self, folder, arguments):
        self.folder, self.quick, self.sizes = folder, arguments.quick, arguments.files
        self.runs, self.seconds = (3, 1) if self.quick else (5, 5)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).absolute()
        self.built = target / "release"
        self.weir = self.built / "weir"
        self.lake = folder / "lake"
        self.lake.mkdir()
        self.children, self.s3_port = [], None
        for program in [self.weir, *(self.built / "examples" / name for name in PROGRAMS)]:
            if not program.exists():
                raise Failed(f"{program.name} is not built for release: `make bench` builds all that is needed")

    def start(self, command, cores=None, **how):
        """Starts a program, on these cores alone if any are named; ended with the run at the latest."""
        if cores is not None:
            how["preexec_fn"] = lambda: os.sched_setaffinity(0, cores)
        child = subprocess.Popen([str(part) for part in command], **how)
        self.children.append(child)
        return child

    def stop(self, child, how=signal.SIGTERM, patience=40):
        """Ends a program that was started; answers what it still said."""
        if child.poll() is None:
            child.send_signal(how)
        try:
            said, _ = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
        self.children.remove(child)
        return said

    def stop_all(self):
        for child in self.children[::-1]:
            self.stop(child, patience=10)

    def run(self, name, *arguments, cores=None, **how):
        """Runs one of the programs to its end; answers the JSON that it prints, if it does."""
        child = self.start([self.built / "examples" / name, *arguments], cores, stdout=subprocess.PIPE, text=True, **how)
        said, _ = child.communicate()
        self.children.remove(child)
        if child.returncode != 0:
            raise Failed(f"{name} {' '.join(map(str, arguments))} ended with {child.returncode}")
        return json.loads(said) if said.startswith(("{", "[")) else said

    def table(self, files, *options):
        """The name of a table in the lake, made when it is first asked for; `options` are those of `generate`."""
        name = "-".join(["files", str(files), *(option.strip("-") for option in map(str, options))])
        if not (self.lake / name).exists():
            self.run("generate", self.lake / name, files, *options)
        return name

    def copy_of(self, table):
        """A copy that may be committed to."""
        shutil.copytree(self.lake / table, self.lake / f"{table}-copy")
        return f"{table}-copy"

    def yardsticks(self, table=None):
        """The yardsticks that are no server; with a table those of its checkpoint."""
        return self.run("yardsticks", *([self.checkpoint(table)] if table else []))

    def checkpoint(self, table):
        return next((self.lake / table / "_delta_log").glob("*.checkpoint.parquet"))

    def forget(self, table):
        """Takes a table's log out of the page cache, as far as the system does it on request."""
        for file in (self.lake / table / "_delta_log").iterdir():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def local(self):
        """A storage whose files come through the server, by sealed URLs."""
        return f"file://{self.lake}", ""

    def s3(self):
        """The same lake as a bucket, whose URLs are presigned."""
        if self.s3_port is None:
            command = [self.built / "examples/s3_server", self.folder]
            child = self.start(command, env={**os.environ, **KEYS}, stdout=subprocess.PIPE, text=True)
            self.s3_port = int(child.stdout.readline())
        options = {
            "aws_endpoint": f"http://127.0.0.1:{self.s3_port}", "aws_region": "us-east-1", "aws_allow_http": "true",
            **{name.lower(): value for name, value in KEYS.items()},
        }
        options = ", ".join(f'{name} = "{value}"' for name, value in options.items())
        return "s3://lake", f"options = {{ {options} }}\n"


def wait_until(holds, what, seconds=60):
    """Asks again and again until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{what} after {seconds} s")
        time.sleep(0.02)
