"""Many clients at once that can be asked something, all with the same ids: crowd.py GATEWAY FIXTURE

Each has a session (MCP 2025-11-25) and needs a core process of its own while it calls; there are
more of them than processes. Each must be asked its own questions only, get its own answers, and
get them: nobody is busy for long here, so nobody is to be turned away.
"""

import http.client
import json
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from gateway import Failed, Gateway, expect, run

CLIENTS, CALLS = 64, 3
TIMEOUT_SECONDS = 60


class Client:
    def __init__(self, gateway, name):
        self.gateway, self.name, self.session = gateway, name, None

    def post(self, message):
        connection = http.client.HTTPConnection(self.gateway.address, timeout=TIMEOUT_SECONDS)
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self.session:
            headers |= {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": "2025-11-25"}
        connection.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}), headers | self.gateway.bearer())
        return connection.getresponse()

    def done(self, message):
        """For a message whose answer says nothing more than its status."""
        answer = self.post(message)
        answer.read()
        if answer.status not in (200, 202):
            raise Failed(f"{self.name}: {message}: status {answer.status}")
        return answer

    def open(self):
        client = {"name": self.name, "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": client}
        self.session = self.done({"id": 1, "method": "initialize", "params": params}).getheader("Mcp-Session-Id")
        self.done({"method": "notifications/initialized"})

    def call(self, mark):
        """Calls the tool that asks; both the question and the answer carry the mark."""
        params = {"name": "test_elicitation", "arguments": {"message": mark}}
        answer = self.post({"id": 1, "method": "tools/call", "params": params})
        if answer.getheader("Content-Type") != "text/event-stream":
            raise Failed(f"{mark}: status {answer.status}: {answer.read()!r}")
        asked = False
        for line in iter(answer.readline, b""):
            if not line.startswith(b"data:"):
                continue
            message = json.loads(line[5:])
            if message.get("method") == "elicitation/create":
                if message["params"]["message"] != mark:
                    raise Failed(f"{mark}: asked somebody else's question: {message}")
                asked = True
                result = {"action": "accept", "content": {"response": f"answer to {mark}"}}
                self.done({"id": message["id"], "result": result})
            elif not asked or message.get("id") != 1 or f"answer to {mark}" not in json.dumps(message):
                raise Failed(f"{mark}: got {message}")
            else:
                return
        raise Failed(f"{mark}: the stream ended without an answer")


def main(binary, fixture):
    print(f"a crowd of {CLIENTS}:", flush=True)
    with Gateway(binary, [fixture]) as gateway:
        failures, together = [], threading.Barrier(CLIENTS, timeout=TIMEOUT_SECONDS)

        def one(name):
            client = Client(gateway, name)
            try:
                client.open()
                together.wait()
                for call in range(CALLS):
                    client.call(f"{name}, call {call}")
            except (Failed, OSError, threading.BrokenBarrierError) as failed:
                together.abort()
                failures.append(f"{name}: {failed!r}")

        threads = [threading.Thread(target=one, args=(f"client {number}",)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(not failures, f"{CLIENTS * CALLS} calls are asked their own questions and get their answers", failures[:3])


run(main, *sys.argv[1:])
