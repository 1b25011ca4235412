"""A head node of a Ray cluster, with its token, as people start one."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECRET_KEY = "wJalrXUtnFEMI-not-to-be-seen"
"""What AWS_SECRET_ACCESS_KEY is in everything that runs on the head."""


def free_ports(count):
    """Ports below Ray's own worker range (10002 and up) that nobody listens on."""
    found = []
    for port in range(6500 + os.getpid() % 2500, 9900):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


class Head:
    """A head node as `ray start --head --block` in a process of its own, with its own token."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mrj-", dir="/tmp"))
        port, dashboard, client = free_ports(3)
        self.address = f"http://127.0.0.1:{dashboard}"
        clean = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
        self.token = secrets.token_hex(16)
        self.environment = clean | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        bin_folder = Path(sys.executable).parent
        self.ray = bin_folder / "ray"
        self.environment["PATH"] = f"{bin_folder}:{clean.get('PATH', '')}"
        self.log = (self.folder / "head.log").open("w")
        self.process = subprocess.Popen(
            [
                *(self.ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1"),
                *(f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=4"),
                *(f"--ray-client-server-port={client}", "--dashboard-host=127.0.0.1"),
                *("--object-store-memory=200000000", "--disable-usage-stats"),
            ],
            env=self.environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait(self, seconds=60):
        request = urllib.request.Request(
            f"{self.address}/api/jobs/", headers={"Authorization": f"Bearer {self.token}"}
        )
        deadline = time.monotonic() + seconds
        while True:
            try:
                return urllib.request.urlopen(request, timeout=5).read()
            except OSError:
                assert self.process.poll() is None, (self.folder / "head.log").read_text()
                assert time.monotonic() < deadline, (self.folder / "head.log").read_text()
                time.sleep(0.5)

    def submit(self, *command, **environment):
        return subprocess.run(
            [
                *(self.ray, "job", "submit", "--address", self.address),
                *("--working-dir", ROOT, "--", "python", *command),
            ],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, path):
        """The answer of its HTTP port to the holder of the token."""
        request = urllib.request.Request(
            self.address + path, headers={"Authorization": f"Bearer {self.token}"}
        )
        return urllib.request.urlopen(request, timeout=10).read().decode()
