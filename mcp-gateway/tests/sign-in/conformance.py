"""The conformance suite's scenarios for authorization servers: conformance.py GATEWAY CORE SUITE…

SUITE… is the command of the suite. It prints where the owner's browser must go and waits for it to come back; the
owner is played here.
"""

import json
import subprocess
import sys
import tempfile
import threading
import urllib.request

from world import SECONDS, gateway_running, owner_allows

PORT = 3031


def registered(base):
    """A public client's id. Where public clients are welcome the suite is one, though it has a secret."""
    body = {"redirect_uris": [f"http://127.0.0.1:{PORT}/callback"], "token_endpoint_auth_method": "none"}
    request = urllib.request.Request(f"{base}/oauth/register", json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request, timeout=SECONDS))["client_id"]


def main(gateway, core, *suite):
    with gateway_running(gateway, core) as base, tempfile.TemporaryDirectory() as results:
        command = [
            *suite, "authorization", "--url", base, "--client-id", registered(base), "--resource",
            f"{base}/mcp", "--port", str(PORT), "-o", results,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        too_late = threading.Timer(SECONDS * 2, process.kill)
        too_late.start()
        try:
            url = None
            for line in process.stdout:
                print(line, end="")
                if (start := line.find(f"{base}/authorize?")) >= 0:
                    url = line[start:].split()[0]
                elif "Callback server started" in line:
                    # Only now somebody listens where the browser is sent back to.
                    owner_allows(url, follow=True)
        finally:
            too_late.cancel()
            if sys.exc_info()[0]:
                process.kill()
        if process.wait() != 0:
            raise SystemExit("FAILED: the suite is not content")


main(*sys.argv[1:])
