"""Version 2 of the Python client: client_2.py MODE BINARY

MODE is "legacy" (the handshake), "auto" (asks the server) or a protocol version.
"""

import sys

import mcp
from checks import TIMEOUT_SECONDS, expect, on_the_wire, run, run_checks, server_environment
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError


async def main(mode, binary):
    print(f"client 2, {mode}:")
    server = StdioServerParameters(command=binary, env=server_environment())
    async with mcp.Client(server, mode=mode, read_timeout_seconds=TIMEOUT_SECONDS) as client:
        version = client.protocol_version
        # A server that knows the current version must not be taken for an old one.
        wanted = "2025-11-25" if mode == "legacy" else "2026-07-28"
        expect(version == wanted, f"speaks {wanted}", version)

        async def list_tools():
            tools, cursor = [], None
            while True:
                page = await client.list_tools(cursor=cursor)
                tools += map(on_the_wire, page.tools)
                cursor = page.next_cursor
                if cursor is None:
                    return tools

        async def call_tool(name, arguments):
            return on_the_wire(await client.call_tool(name, arguments))

        await run_checks(list_tools, call_tool, MCPError)


run(main(*sys.argv[1:]))
