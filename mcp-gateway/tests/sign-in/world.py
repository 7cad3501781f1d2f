"""A running gateway, and its owner as a script."""

import contextlib
import html
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

PASSWORD = "four plain words here"
CLIENT_ID, CLIENT_SECRET = "homelab", "secret-0123456789-0123456789"
# Whatever takes longer hangs.
SECONDS = 60


@contextlib.contextmanager
def gateway_running(gateway, core):
    """A gateway at level 2 with everything on; gives its address. Its log is printed when something goes wrong."""
    with tempfile.TemporaryDirectory() as state:
        environment = {
            "PATH": os.environ["PATH"], "HOME": state, "STATE_DIR": state, "PORT": "0", "METRICS_ADDR": "off",
            "CORE_COMMAND": f"'{core}'", "CAPABILITY_LEVEL": "2", "DYNAMIC_REGISTRATION": "on",
            "OAUTH_CLIENT_ID": CLIENT_ID, "OAUTH_CLIENT_SECRET": CLIENT_SECRET, "OWNER_PASSWORD": PASSWORD,
        }  # fmt: skip
        log = f"{state}/log"
        with open(log, "w") as lines:
            process = subprocess.Popen([gateway], env=environment, stderr=lines)
        try:
            yield started(process, log)
        except BaseException:
            with open(log) as lines:
                print(lines.read())
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)


def started(process, log):
    """Where the gateway listens."""
    deadline = time.monotonic() + SECONDS
    while True:
        with open(log) as lines:
            text = lines.read()
        if found := re.search(r"listening on (http://\S+)\n", text):
            return found.group(1)
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("FAILED: the gateway does not start")
        time.sleep(0.05)


class Stay(urllib.request.HTTPRedirectHandler):
    """Tells where to go instead of going there."""

    def redirect_request(self, *_):
        return None


def owner_allows(url, follow=False):
    """Reads the page and allows the level that the app asks for, or the lowest: the level, and where that leads."""
    page = urllib.request.urlopen(url, timeout=SECONDS).read().decode()
    asked = re.search(r'for="level-(\d)"><b>\w+</b> <span class="badge">', page)
    level = asked.group(1) if asked else "1"
    form = html.unescape(re.search(r'name="form" value="([^"]*)"', page).group(1))
    body = {"form": form, "level": level, "password": PASSWORD, "decision": "allow"}
    request = urllib.request.Request(url.split("?")[0], urllib.parse.urlencode(body).encode())
    try:
        urllib.request.build_opener(Stay).open(request, timeout=SECONDS)
    except urllib.error.HTTPError as answer:
        target = answer.headers["location"]
        if follow:
            urllib.request.urlopen(target, timeout=SECONDS).read()
        return level, target
    raise SystemExit("FAILED: the page leads nowhere")
