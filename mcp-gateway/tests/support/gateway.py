"""Starts a gateway with a core behind it, on a free loopback port, and ends it again.

Only the standard library: it is used by all tests that look at the gateway from outside.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

START_SECONDS = 30
STOP_SECONDS = 15


# So that what was started is ended, too, when the test is.
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Failed(Exception):
    """Something was not as expected; its text is all that needs to be said."""


def expect(condition, what, seen=None):
    """Not `assert`: it must also hold under -O, and say what was seen."""
    if not condition:
        raise Failed(what if seen is None else f"{what}\n  seen: {seen!r}")
    print(f"  ok: {what}", flush=True)


def poll(condition, what, seconds=10):
    """Waits until the condition holds, and gives what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value


class Gateway:
    """A running gateway: `with Gateway(binary, core) as gateway`, where the core is a program and
    its arguments. Further variables by keyword."""

    def __init__(self, binary, core, **variables):
        self.directory = tempfile.TemporaryDirectory(prefix="homelab-gateway.")
        home = Path(self.directory.name)
        self.log = home / "log"
        self.key = secrets.token_hex(16)
        self.client_id, self.client_secret = "test-client", secrets.token_hex(16)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "STATE_DIR": str(home / "state"),
            "PORT": "0",
            "METRICS_ADDR": "off",
            "API_KEY": self.key,
            "OAUTH_CLIENT_ID": self.client_id,
            "OAUTH_CLIENT_SECRET": self.client_secret,
            # Nothing can be changed, whatever a test calls.
            "CAPABILITY_LEVEL": "1",
            "CORE_COMMAND": " ".join(f'"{word}"' for word in (Path(core[0]).resolve(), *core[1:])),
            # A panic is to be found in the log.
            "RUST_BACKTRACE": "1",
            **variables,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(binary).resolve()],
                env=self.environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        try:
            self.address = poll(self._listening, "the gateway listens", START_SECONDS)
            self.origin = f"http://{self.address}"
            poll(self._ready, "the gateway is ready", START_SECONDS)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, error, _):
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = f"none within {STOP_SECONDS} s of SIGTERM; killed"
            self.process.wait()
        log = self.log.read_text(errors="replace")
        self.directory.cleanup()
        if error is not None:
            print(f"--- the gateway's log ---\n{log[-20_000:]}---", flush=True)
            return
        if status != 0 or "panicked at" in log:
            print(f"--- the gateway's log ---\n{log[-20_000:]}---", flush=True)
            raise Failed(f"the gateway did not end cleanly: exit status {status}")

    def bearer(self):
        return {"Authorization": f"Bearer {self.key}"}

    def _listening(self):
        if self.process.poll() is not None:
            raise Failed(f"the gateway ended at its start: exit status {self.process.returncode}")
        found = re.search(r"listening on http://(127\.0\.0\.1:\d+)", self.log.read_text(errors="replace"))
        return found and found[1]

    def _ready(self):
        try:
            with urllib.request.urlopen(f"{self.origin}/ready", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError:
            return False


def run(main, *arguments):
    """Runs a test's main function; a failed expectation ends it with a sentence and not with a stack."""
    try:
        main(*arguments)
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
