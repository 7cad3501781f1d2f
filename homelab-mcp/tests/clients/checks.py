"""What every client checks, whatever its version and protocol.

The clients hand over plain dictionaries with the names of the wire, so that nothing here
depends on how a client's library spells them.
"""

import asyncio
import json
import os
import sys

import jsonschema

# A hang must not hold up the whole run; no call here takes more than a second.
TIMEOUT_SECONDS = 60
MISSING = "no-such-container"
INVALID_PARAMS = -32602


def server_environment():
    """What the server gets: level 4 lists every tool, also those that change something."""
    return {
        "CAPABILITY_LEVEL": "4",
        "DOCKER_HOST": os.environ["HOMELAB_TEST_DOCKER_HOST"],
        # A panic in the server is to be found in the log of the run.
        "RUST_BACKTRACE": "1",
    }


class Failed(Exception):
    """Something was not as expected; its text is all that needs to be said."""


def expect(condition, what, seen=None):
    """Not `assert`: it must also hold under -O, and say what was seen."""
    if not condition:
        raise Failed(what if seen is None else f"{what}\n  seen: {json.dumps(seen)}")
    print(f"  ok: {what}")


def run(main):
    """Runs the coroutine; the libraries wrap what was raised in groups of task groups."""
    try:
        asyncio.run(main)
    except (Failed, BaseExceptionGroup) as error:
        failed = error
        while isinstance(failed, BaseExceptionGroup):
            failed = failed.exceptions[0]
        if not isinstance(failed, Failed):
            raise
        sys.exit(f"FAILED: {failed}")


def text_of(result):
    return "\n".join(item.get("text", "") for item in result["content"])


def check_success(tool, result):
    name = tool["name"]
    expect(not result.get("isError"), f"{name} succeeds", result)
    expect("outputSchema" in tool, f"{name} has an outputSchema")
    expect("structuredContent" in result, f"{name} answers with structuredContent", result)
    # Some versions of the client check this, and only for tools that they listed before.
    jsonschema.validate(result["structuredContent"], tool["outputSchema"])
    expect(result["content"], f"{name} has content for clients that know no structuredContent")


async def run_checks(list_tools, call_tool, protocol_error):
    """`list_tools()` and `call_tool(name, arguments)` are coroutines that give wire
    dictionaries; `protocol_error` is the exception for a JSON-RPC error."""
    tools = {tool["name"]: tool for tool in await list_tools()}
    wanted = ["system_info", "docker_list_containers", "docker_restart_container"]
    expect(all(name in tools for name in wanted), f"{len(tools)} tools are listed", list(tools))
    for tool in tools.values():
        for schema in ("inputSchema", "outputSchema"):
            if schema in tool:
                jsonschema.Draft202012Validator.check_schema(tool[schema])
    print("  ok: every schema is valid JSON Schema 2020-12")

    check_success(tools["system_info"], await call_tool("system_info", {}))

    result = await call_tool("docker_list_containers", {})
    check_success(tools["docker_list_containers"], result)
    running = os.environ["HOMELAB_TEST_CONTAINER"]
    expect(running in json.dumps(result["structuredContent"]), "the running container is listed", result)

    restart = tools["docker_restart_container"]
    argument = container_argument(restart)
    result = await call_tool(restart["name"], {argument: MISSING})
    expect(result.get("isError"), "restarting a container that does not exist is a tool error", result)
    expect(MISSING in text_of(result), "and it names the container", result)

    # A model can mend a tool error, so a wrong argument is one, and not a protocol error.
    result = await call_tool(restart["name"], {argument: 12345})
    expect(result.get("isError"), "a wrong argument type is a tool error", result)
    expect(argument in text_of(result), f"and it names the argument ({argument})", result)

    try:
        result = await call_tool("no_such_tool", {})
    except protocol_error as error:
        expect(error.error.code == INVALID_PARAMS, "an unknown tool is a protocol error", error.error.code)
    else:
        expect(False, "an unknown tool is a protocol error", result)


def container_argument(tool):
    """The tool's one required argument: the container."""
    required = tool["inputSchema"].get("required", [])
    expect(len(required) == 1, "docker_restart_container requires one argument", required)
    return required[0]


def on_the_wire(model):
    # What was not sent is left out; a null that was sent stays.
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)
