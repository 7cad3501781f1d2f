"""The Python client signs in by itself: oauth.py MODE GATEWAY CORE

The authorization code flow with a client that was given its id, with one that registers itself, the step up to a higher
level, a refresh, and client credentials. MODE is "auto", "legacy" or a protocol version.
"""

import asyncio
import sys
import time
import urllib.parse

import httpx2
import mcp
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata
from world import CLIENT_ID, CLIENT_SECRET, SECONDS, gateway_running, owner_allows

CALLBACK = "http://localhost:3030/callback"


def expect(condition, what, seen=None):
    if not condition:
        raise SystemExit(f"FAILED: {what}\n  seen: {seen}")
    print(f"  ok: {what}")


class Storage:
    def __init__(self, client=None):
        self.tokens, self.client = None, client

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Owner:
    """Allows what is asked for, and remembers it."""

    def __init__(self):
        self.levels, self.answer = [], None

    async def redirect(self, url):
        level, target = await asyncio.to_thread(owner_allows, url)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
        self.levels.append(level)
        self.answer = AuthorizationCodeResult(**query)

    async def callback(self):
        return self.answer


async def tools(url, auth, mode, *calls):
    """The names of the tools, and the answers of these calls."""
    async with httpx2.AsyncClient(auth=auth, timeout=SECONDS) as http:
        async with mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            listed = await client.list_tools()
            answers = [await client.call_tool(name, arguments) for name, arguments in calls]
            return {tool.name for tool in listed.tools}, answers


async def check(mode, base):
    url = f"{base}/mcp"
    metadata = OAuthClientMetadata(client_name="Python", redirect_uris=[CALLBACK], token_endpoint_auth_method="client_secret_post")
    given = OAuthClientInformationFull(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, issuer=base, **metadata.model_dump(exclude_none=True)
    )
    for who, client in [("a client with its own id", given), ("a client that registers", None)]:
        owner, storage = Owner(), Storage(client)
        auth = OAuthClientProvider(url, metadata.model_copy(), storage, owner.redirect, owner.callback)
        names, _ = await tools(url, auth, mode)
        expect("system_info" in names and "docker_restart_container" not in names, f"{who} gets level 1", sorted(names))
        expect(owner.levels == ["1"], "the page asked for no more", owner.levels)
        _, answers = await tools(url, auth, mode, ("docker_restart_container", {"container": "none"}))
        expect(owner.levels == ["1", "2"], "a call of level 2 leads to the page again", owner.levels)
        expect(storage.tokens.scope == "homelab:monitor homelab:operate", "and to a token of level 2", storage.tokens.scope)
        expect(len(answers) == 1, "and to an answer of the tool")
        second = storage.tokens
        auth.context.token_expiry_time = time.time() - 1
        await tools(url, auth, mode)
        expect(storage.tokens.refresh_token != second.refresh_token, "a token that is over is refreshed")
        expect(owner.levels == ["1", "2"], "without the owner")
    for method in ["client_secret_basic", "client_secret_post"]:
        storage = Storage()
        auth = ClientCredentialsOAuthProvider(url, storage, CLIENT_ID, CLIENT_SECRET, method, issuer=base)
        names, _ = await tools(url, auth, mode, ("docker_restart_container", {"container": "none"}))
        expect("system_info" in names and "homelab:operate" in storage.tokens.scope, f"client credentials by {method}")


def main(mode, gateway, core):
    print(f"oauth, {mode}:")
    with gateway_running(gateway, core) as base:
        asyncio.run(asyncio.wait_for(check(mode, base), SECONDS * 2))


main(*sys.argv[1:])
