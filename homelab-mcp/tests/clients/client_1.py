"""Version 1 of the Python client, which knows only the handshake: client_1.py BINARY"""

import sys
from datetime import timedelta

from checks import TIMEOUT_SECONDS, expect, on_the_wire, run, run_checks, server_environment
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main(binary):
    print("client 1:")
    server = StdioServerParameters(command=binary, env=server_environment())
    async with (
        stdio_client(server) as (read, write),
        ClientSession(read, write, read_timeout_seconds=timedelta(seconds=TIMEOUT_SECONDS)) as session,
    ):
        version = (await session.initialize()).protocolVersion
        expect(version == "2025-11-25", "speaks 2025-11-25", version)

        async def list_tools():
            tools, cursor = [], None
            while True:
                page = await session.list_tools(cursor=cursor)
                tools += map(on_the_wire, page.tools)
                cursor = page.nextCursor
                if cursor is None:
                    return tools

        async def call_tool(name, arguments):
            return on_the_wire(await session.call_tool(name, arguments))

        await run_checks(list_tools, call_tool, McpError)


run(main(*sys.argv[1:]))
