"""Version 1 of the Python client over HTTP, which knows only the handshake: client_1.py GATEWAY HOMELAB_MCP FIXTURE"""

import sys
from datetime import timedelta

from checks import TIMEOUT_SECONDS, Tokens, check_fixture, check_product, on_the_wire, product, run
from gateway import Gateway, expect
from mcp import ClientSession, McpError, types
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


class Client:
    """As checks.py wants it."""

    error = McpError

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
            page = await self.session.list_tools(cursor=cursor)
            tools += map(on_the_wire, page.tools)
            cursor = page.nextCursor
            if cursor is None:
                return tools

    async def call_tool(self, name, arguments, progress=None, log=False):
        return on_the_wire(await self.session.call_tool(name, arguments, progress_callback=progress))


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


async def connected(gateway, sign_in, check, callbacks=False):
    client = Client()
    print(f"client 1, {sign_in.__name__}, {check.__name__}:", flush=True)
    async with (
        create_mcp_http_client(**sign_in(gateway)) as http,
        streamable_http_client(f"{gateway.origin}/mcp", http_client=http) as (read, write, _session_id),
        ClientSession(
            read,
            write,
            read_timeout_seconds=timedelta(seconds=TIMEOUT_SECONDS),
            **(client.callbacks() if callbacks else {}),
        ) as client.session,
    ):
        version = (await client.session.initialize()).protocolVersion
        expect(version == "2025-11-25", "speaks 2025-11-25", version)
        await check(client)


async def main(binary, core, fixture):
    with product(binary, core) as gateway:
        for sign_in in (bearer, client_credentials):
            await connected(gateway, sign_in, check_product)
    with Gateway(binary, [fixture]) as gateway:
        for sign_in in (bearer, client_credentials):
            await connected(gateway, sign_in, check_fixture, callbacks=True)


run(main(*sys.argv[1:]))
