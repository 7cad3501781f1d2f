"""Version 2 of the Python client over HTTP: client_2.py MODE GATEWAY HOMELAB_MCP FIXTURE

MODE is "legacy" (the handshake), "auto" (asks the server) or a protocol version.
"""

import sys

import anyio
import httpx2
import mcp
from checks import TIMEOUT_SECONDS, Tokens, check_cancelled, check_fixture, check_product, on_the_wire, product, run
from gateway import Gateway, expect
from mcp import types
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError


CURRENT = "2026-07-28"


class Client:
    """As checks.py wants it."""

    error = MCPError

    def __init__(self):
        self.asked, self.logged = [], []

    def callbacks(self):
        """With these the client declares what it can be asked."""

        async def elicit(_context, params):
            self.asked.append(params.message)
            return types.ElicitResult(action="accept", content={"response": "It is me"})

        async def sample(_context, params):
            self.asked.append(params.messages[0].content.text)
            content = types.TextContent(type="text", text="Something")
            return types.CreateMessageResult(role="assistant", content=content, model="none")

        async def log(params):
            self.logged.append(params.data)

        return {"elicitation_callback": elicit, "sampling_callback": sample, "logging_callback": log}

    async def list_tools(self):
        tools, cursor = [], None
        while True:
            page = await self.client.list_tools(cursor=cursor)
            tools += map(on_the_wire, page.tools)
            cursor = page.next_cursor
            if cursor is None:
                return tools

    async def call_tool(self, name, arguments, progress=None, log=False):
        # Not for all calls: one that wants the log gets a core process of its own.
        meta = {"io.modelcontextprotocol/logLevel": "info"} if log and self.is_modern else None
        return on_the_wire(await self.client.call_tool(name, arguments, progress_callback=progress, meta=meta))

    @property
    def is_modern(self):
        return self.client.protocol_version == CURRENT


async def cancel(call):
    with anyio.CancelScope() as scope:

        async def progress(*_):
            scope.cancel()

        await call(progress)


def bearer(gateway):
    return {"headers": gateway.bearer()}


def client_credentials(gateway):
    return {
        "auth": ClientCredentialsOAuthProvider(
            server_url=f"{gateway.origin}/mcp",
            storage=Tokens(),
            client_id=gateway.client_id,
            client_secret=gateway.client_secret,
            issuer=gateway.origin,
        )
    }


async def connected(gateway, mode, sign_in, check, callbacks=False, wanted=None):
    client = Client()
    print(f"client 2, {mode}, {sign_in.__name__}, {check.__name__}:", flush=True)
    async with create_mcp_http_client(**sign_in(gateway)) as http:
        transport = streamable_http_client(f"{gateway.origin}/mcp", http_client=http)
        options = client.callbacks() if callbacks else {}
        async with mcp.Client(transport, mode=mode, read_timeout_seconds=TIMEOUT_SECONDS, **options) as client.client:
            version = client.client.protocol_version
            # A server that knows the current version must not be taken for an old one.
            wanted = wanted or ("2025-11-25" if mode == "legacy" else CURRENT)
            expect(version == wanted, f"speaks {wanted}", version)
            await check(client)


async def cancelling(client):
    await check_cancelled(client, cancel)


async def refused(gateway):
    """A key that is none, as the library sees it."""
    async with httpx2.AsyncClient(headers={"Authorization": "Bearer wrong"}) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = await http.post(f"{gateway.origin}/mcp", json=body)
        challenge = answer.headers.get("www-authenticate", "")
        expect(answer.status_code == 401 and "invalid_token" in challenge, "a wrong key is refused", challenge)


async def main(mode, binary, core, fixture):
    with product(binary, core) as gateway:
        for sign_in in (bearer, client_credentials):
            await connected(gateway, mode, sign_in, check_product)
        await refused(gateway)
    with Gateway(binary, [fixture]) as gateway:
        for sign_in in (bearer, client_credentials):
            await connected(gateway, mode, sign_in, check_fixture, callbacks=True)
        # In a session that cannot be asked and in one that can, which has a core process of its own.
        for callbacks in (False, True):
            await connected(gateway, mode, bearer, cancelling, callbacks)
    if mode == "auto":
        # A server that knows only the handshake is recognised as such.
        with Gateway(binary, [fixture, "legacy"]) as gateway:
            await connected(gateway, mode, bearer, check_fixture, callbacks=True, wanted="2025-11-25")


run(main(*sys.argv[1:]))
