"""Runs real fedwatt processes for the end-to-end tests: one coordinator, some clients, one folder each run."""

import json
import os
import pathlib
import signal
import subprocess
import time

BIN = pathlib.Path(os.environ["FEDWATT_BIN"])
DATA = "/usr/share/datasets/fashion-mnist"


def wait_for(condition, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def settings(**changes):
    """`--set` flags; keys with a double underscore for the dot."""
    flags = []
    for key, value in changes.items():
        flags += ["--set", f"{key.replace('__', '.')}={value}"]
    return flags


def read_lines(path):
    """The whole lines of a record that may still be written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


class Process:
    """One child with its talk in a file, so that a failing test can show it."""

    def __init__(self, command, log):
        self.log = log
        self.command = [str(word) for word in command]
        with open(log, "ab") as sink:
            self.child = subprocess.Popen(self.command, stdout=sink, stderr=sink)

    def wait(self, seconds):
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.command[0]} did not end in {seconds} s:\n{self.tail()}") from None

    def kill(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait()

    def tail(self):
        return pathlib.Path(self.log).read_text(errors="replace")[-3000:]


class Federation:
    """A coordinator and its clients. Use as a context manager: whatever happens, no child is left."""

    def __init__(self, folder, flags, clients, partitions=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.out = self.folder / "out"
        self.flags = flags + settings(security__directory=self.folder / "security")
        self.partitions = partitions or [f"{i}/{clients}" for i in range(clients)]
        self.server = None
        self.clients = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.clients + ([self.server] if self.server else []):
            process.kill()

    def start_server(self, listen="127.0.0.1:0", wait=60):
        address = self.out / "address"
        address.unlink(missing_ok=True)
        self.server = Process([BIN / "fedwatt-server", "--listen", listen, "--out", self.out] + self.flags, self.folder / "server.log")
        deadline = time.monotonic() + wait
        while not address.exists() or not address.read_text().strip():
            assert self.server.child.poll() is None, f"the server ended at once:\n{self.server.tail()}"
            assert time.monotonic() < deadline, f"the server did not say its address:\n{self.server.tail()}"
            time.sleep(0.02)
        self.address = address.read_text().strip()
        return self.address

    def start_client(self, partition, extra=(), address=None, within=()):
        """`within`: a command that runs what follows it."""
        log = self.folder / f"client-{partition.replace('/', '-of-')}.log"
        client = Process([*within, BIN / "fedwatt-client", "--server", address or self.address, "--partition", partition] + self.flags + list(extra), log)
        self.clients.append(client)
        return client

    def start(self):
        self.start_server()
        for partition in self.partitions:
            self.start_client(partition)

    def finish(self, seconds=240, code=0):
        got = self.server.wait(seconds)
        assert got == code, f"the server ended with {got}:\n{self.server.tail()}"
        for client in self.clients:
            if client.child.returncode is None:
                got = client.wait(60)
                assert got == 0, f"a client ended with {got}:\n{client.tail()}"

    def rounds(self):
        return read_lines(self.out / "rounds.jsonl")

    def attempts(self):
        return read_lines(self.out / "clients.jsonl")

    def summary(self):
        return json.loads((self.out / "summary.json").read_text())


def run_fleet(folder, flags, workers=1):
    """The same federation, simulated."""
    out = pathlib.Path(folder)
    done = subprocess.run([str(BIN / "fedwatt-fleet"), "--out", str(out), "--threads", str(workers)] + flags,
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return read_lines(out / "rounds.jsonl")
