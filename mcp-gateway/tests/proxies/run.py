"""The gateway behind a reverse proxy, with the example configuration that users copy:

    run.py nginx|caddy PROGRAM EXAMPLE GATEWAY FIXTURE

Everything is on loopback and in a private directory; a proxy that runs on this machine as a
service is neither used nor touched. The proxy speaks TLS with a certificate made here, and the
gateway knows itself by a public name, as it would be in use.

The core behind the gateway goes on only when it is told to: an event that is held back on the
way never arrives, however long the test would wait.
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from gateway import Failed, Gateway, expect, poll, run

NAME = "mcp.example.test"
TIMEOUT_SECONDS = 30
CURRENT, LEGACY = "2026-07-28", "2025-11-25"
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
BOTH = "application/json, text/event-stream"

# --- proxies ---

# What a distribution's own file has around the servers, and nothing about buffering.
NGINX = """
daemon off;
{user}
pid {home}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    gzip on;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {name};
        ssl_certificate {home}/certificate.pem;
        ssl_certificate_key {home}/key.pem;
        include {home}/example.conf;
    }}
}}
"""

CADDY = """
{{
    admin off
    default_bind 127.0.0.1
    local_certs
    skip_install_trust
    auto_https disable_redirects
}}
import {example}
"""


def nginx(program, example, home, port, gateway):
    text = Path(example).read_text()
    address = "127.0.0.1:3005"
    expect(text.count(address) == 1, f"the example passes on to {address}, once")
    (home / "example.conf").write_text(text.replace(address, gateway))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-days", "2", "-subj", f"/CN={NAME}", "-keyout", home / "key.pem", "-out", home / "certificate.pem"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    # Its workers would be another user, who may not come into the private directory.
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "nginx.conf").write_text(NGINX.format(home=home, port=port, name=NAME, user=user))
    return [program, "-p", home, "-e", "stderr", "-c", home / "nginx.conf"], {}


def caddy(program, example, home, port, gateway):
    (home / "Caddyfile").write_text(CADDY.format(example=Path(example).resolve()))
    variables = {"MCP_SITE": f"https://{NAME}:{port}", "MCP_GATEWAY": gateway}
    # Its certificates are made and kept below these.
    private = {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    return [program, "run", "--adapter", "caddyfile", "--config", home / "Caddyfile"], variables | private


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def proxy(kind, program, example, gateway):
    """A running proxy in front of the gateway; gives its port."""
    with tempfile.TemporaryDirectory(prefix="homelab-proxy.") as directory:
        home, port = Path(directory), free_port()
        command, variables = {"nginx": nginx, "caddy": caddy}[kind](program, example, home, port, gateway)
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def answers():
            if process.poll() is not None:
                raise Failed(f"{kind} ended at its start")
            with contextlib.suppress(OSError):
                return Client(port, None).get("/health").status == 200

        try:
            poll(answers, f"{kind} answers", TIMEOUT_SECONDS)
            yield port
        except BaseException:
            print(f"--- {kind}'s log ---\n{(home / 'log').read_text(errors='replace')[-5_000:]}---", flush=True)
            raise
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# --- a client ---


class Connection(http.client.HTTPSConnection):
    """To the proxy on loopback, under the public name; the certificate is nobody's business here."""

    def __init__(self, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__(NAME, port, timeout=TIMEOUT_SECONDS, context=context)

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS)
        self.sock = self._context.wrap_socket(plain, server_hostname=NAME)


class Client:
    """Speaks plain HTTP, one connection for each request, so that what arrives when is seen here
    and not in a library. Each method gives the open answer."""

    def __init__(self, port, key):
        self.port, self.session, self.next_id = port, None, 0
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def send(self, method, path, body=None, headers=None):
        connection = Connection(self.port)
        # As a browser or proxy-facing client would name it: without the test's own port.
        headers = {"Host": NAME, **self.headers, **(headers or {})}
        if self.session:
            headers |= {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": LEGACY}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
        except TimeoutError:
            raise Failed(f"{method} {path}: no answer within {TIMEOUT_SECONDS} s") from None
        answer.connection = connection
        return answer

    def get(self, path, headers=None):
        return self.send("GET", path, headers=headers)

    def post(self, message, accept=BOTH, headers=None):
        headers = {"Content-Type": "application/json", "Accept": accept, **(headers or {})}
        return self.send("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}), headers)

    def ask(self, method, params, accept=BOTH):
        """A request in the era of this client."""
        self.next_id += 1
        headers = {}
        if not self.session:
            meta = {VERSION: CURRENT, CAPABILITIES: {}}
            params = {**params, "_meta": {**meta, **params.get("_meta", {})}}
            headers = {"MCP-Protocol-Version": CURRENT, "Mcp-Method": method}
            headers |= {"Mcp-Name": params["name"]} if "name" in params else {}
        return self.post({"id": self.next_id, "method": method, "params": params}, accept, headers)

    def call(self, tool, arguments, token=None, accept=BOTH):
        meta = {"_meta": {"progressToken": token}} if token else {}
        return self.ask("tools/call", {"name": tool, "arguments": arguments, **meta}, accept)

    def text(self, tool, arguments):
        """The text of a tool's answer."""
        answer = self.call(tool, arguments, accept="application/json")
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"{tool}: status {answer.status}: {body!r}")
        return json.loads(body)["result"]["content"][0]["text"]


def events(answer):
    """The messages of an event stream, each as soon as it is there; None for a comment."""

    def line():
        try:
            return answer.readline()
        except TimeoutError:
            raise Failed(f"nothing arrived on the stream within {TIMEOUT_SECONDS} s") from None

    for line in iter(line, b""):
        if line.startswith(b"data:"):
            yield json.loads(line[5:])
        elif line.startswith(b":"):
            yield None


def drop(answer):
    """Ends the connection as a client does that goes away."""
    with contextlib.suppress(OSError):
        answer.connection.sock.shutdown(socket.SHUT_RDWR)
    answer.close()
    answer.connection.close()


# --- checks ---


def check_plain(client, port):
    answer = client.ask("tools/list", {})
    expect(answer.status == 200 and b"test_simple_text" in answer.read(), "a plain request is answered")

    large = client.call("test_simple_text", {"ballast": "x" * (2 << 20)}, accept="application/json")
    expect(large.status == 200, "a request of 2 MiB passes", large.status)

    answer = Client(port, None).ask("tools/list", {})
    where = f"https://{NAME}/.well-known/oauth-protected-resource/mcp"
    challenge = answer.getheader("WWW-Authenticate", "")
    expect(answer.status == 401 and where in challenge, "without a key the public name says where to sign in", challenge)
    document = json.loads(Client(port, None).get("/.well-known/oauth-protected-resource/mcp").read())
    expect(document["resource"] == f"https://{NAME}/mcp", "and it is there", document)


def check_stream(client, label):
    """Each event is made only after the one before has arrived."""
    answer = client.call("test_stepwise", {"label": label, "steps": 3}, token="t")
    expect(answer.getheader("Content-Type") == "text/event-stream", "a call with progress is answered by a stream")
    stream = events(answer)
    for step in range(1, 4):
        params = next(stream)["params"]
        expect((params["progressToken"], params["progress"]) == ("t", step), f"event {step} arrives before the next", params)
        client.text("test_step", {"label": label})
    last = next(stream)
    expect(last["result"]["content"][0]["text"] == f"{label}: 3 steps", "and then the answer", last)
    expect(next(stream, "end") == "end", "and then the end")


def check_silence(client, label):
    """A call that says nothing: the stream begins all the same."""
    answer = client.call("test_stepwise", {"label": label, "steps": 1})
    stream = events(answer)
    expect(next(stream) is None, "a silent call shows that it is alive")
    client.text("test_step", {"label": label})
    last = next(message for message in stream if message)
    expect("result" in last, "and is answered", last)


def check_disconnect(client, label):
    """A client that goes away in the middle of a stream. Gives what became of the call."""
    answer = client.call("test_stepwise", {"label": label, "steps": 2}, token="t")
    next(events(answer))
    drop(answer)

    def state():
        return json.loads(client.text("test_steps", {}))[label]

    return state


def check_modern(client, port):
    check_plain(client, port)
    check_stream(client, "modern stream")
    check_silence(client, "modern silence")
    state = check_disconnect(client, "modern lost")
    poll(lambda: state() == "cancelled", "a call whose client has gone ends in the core")
    print("  ok: a call whose client has gone ends in the core", flush=True)


def check_session(client):
    params = {"protocolVersion": LEGACY, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}
    answer = client.post({"id": 0, "method": "initialize", "params": params})
    answer.read()
    session = answer.getheader("Mcp-Session-Id")
    expect(answer.status == 200 and session, "initialize opens a session")
    client.session = session
    answer = client.post({"method": "notifications/initialized"})
    expect((answer.status, answer.read()) == (202, b""), "a notification is taken", answer.status)

    own = client.get("/mcp", {"Accept": "text/event-stream"})
    expect((own.status, own.getheader("Content-Type")) == (200, "text/event-stream"), "a GET opens its stream", own.status)
    # Where there is no other stream open.
    client.text("test_trigger_tool_change", {})
    message = next(message for message in events(own) if message)
    expect(message["method"] == "notifications/tools/list_changed", "a notification comes on it", message)

    check_stream(client, "session stream")
    check_question(client)

    state = check_disconnect(client, "session lost")
    for _ in range(2):
        client.text("test_step", {"label": "session lost"})
    poll(lambda: state() == "finished", "a call of a session goes on without its client")
    print("  ok: a call of a session goes on without its client", flush=True)

    answer = client.send("DELETE", "/mcp")
    expect(answer.status == 204, "a DELETE ends the session", answer.status)
    rest = [message for message in events(own) if message]
    expect(rest == [], "and its stream", rest)
    answer = client.ask("tools/list", {})
    expect(answer.status == 404, "which is unknown then", answer.status)


def check_question(client):
    """The core asks in the middle of a call."""
    stream = events(client.call("test_elicitation", {"message": "Who is there?"}))
    question = next(message for message in stream if message)
    expect(question["method"] == "elicitation/create", "a question arrives while its call waits", question)
    result = {"action": "accept", "content": {"response": "It is me"}}
    answer = client.post({"id": question["id"], "result": result})
    expect(answer.status == 202, "its answer is taken", answer.status)
    last = next(message for message in stream if message)
    expect("It is me" in last["result"]["content"][0]["text"], "and reaches the call", last)


def main(kind, program, example, binary, fixture):
    variables = {"PUBLIC_URL": f"https://{NAME}", "TRUSTED_PROXIES": "127.0.0.1"}
    with Gateway(binary, [fixture], **variables) as gateway, proxy(kind, program, example, gateway.address) as port:
        print(f"{kind}, {CURRENT}:", flush=True)
        check_modern(Client(port, gateway.key), port)
        print(f"{kind}, {LEGACY}:", flush=True)
        check_session(Client(port, gateway.key))


run(main, *sys.argv[1:])
