"""What every client checks through the gateway, whatever its version, protocol and sign-in.

A client is handed over as an object with
    error                                   the exception for a JSON-RPC error
    list_tools() -> [tool]                  dictionaries with the names of the wire
    call_tool(name, arguments, progress, log) -> result; progress is a coroutine or None, log whether
                                            log messages are wanted where that is said for each call
and, of what the client was asked or told by the server,
    asked: [str], logged: [str]
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import jsonschema

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from gateway import Failed, Gateway, expect

# A hang must not hold up the whole run; no call here takes more than a few seconds.
TIMEOUT_SECONDS = 60
INVALID_PARAMS = -32602


class Tokens:
    """What a client's OAuth keeps, for one client's life."""

    def __init__(self):
        self.tokens = self.client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


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


def product(binary, core):
    """A gateway with homelab-mcp behind it, and with the engine of the test run if there is one."""
    engine = os.environ.get("HOMELAB_TEST_DOCKER_HOST")
    return Gateway(binary, [core], **({"DOCKER_HOST": engine} if engine else {}))


def text_of(result):
    return "\n".join(item.get("text", "") for item in result["content"])


def on_the_wire(model):
    # What was not sent is left out; a null that was sent stays.
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


async def check_product(client):
    """homelab-mcp's own tools, for a client that cannot be asked anything."""
    tools = {tool["name"]: tool for tool in await client.list_tools()}
    expect("system_info" in tools and "docker_list_containers" in tools, f"{len(tools)} tools are listed")

    def is_right(name, result):
        ok = not result.get("isError") and "structuredContent" in result
        if ok:
            jsonschema.validate(result["structuredContent"], tools[name]["outputSchema"])
        return ok

    result = await client.call_tool("system_info", {})
    expect(is_right("system_info", result), "system_info answers as its schema says", result)

    if "HOMELAB_TEST_DOCKER_HOST" in os.environ:
        result = await client.call_tool("docker_list_containers", {})
        expect(is_right("docker_list_containers", result), "docker_list_containers answers as its schema says", result)
        running = os.environ["HOMELAB_TEST_CONTAINER"]
        expect(running in json.dumps(result["structuredContent"]), "and lists the running container", result)

    two = await asyncio.gather(client.call_tool("system_info", {}), client.call_tool("operation_status", {"id": "none"}))
    expect(is_right("system_info", two[0]) and two[1].get("isError"), "two calls at once get their own answers", two)

    try:
        result = await client.call_tool("no_such_tool", {})
    except client.error as error:
        expect(error.error.code == INVALID_PARAMS, "an unknown tool is a protocol error", error.error.code)
    else:
        expect(False, "an unknown tool is a protocol error", result)


async def check_fixture(client):
    """What a server can tell and ask on the way, for a client that can be asked everything."""
    seen = []

    async def progress(done, total, _message):
        seen.append((done, total))

    result = await client.call_tool("test_tool_with_progress", {}, progress)
    expect(seen == [(0, 100), (50, 100), (100, 100)], "progress arrives, in order and before the answer", seen)
    expect(text_of(result) == "All done.", "and then the answer", result)

    result = await client.call_tool("test_error_handling", {})
    expect(result.get("isError") and "fails" in text_of(result), "an error of a tool is passed on", result)

    await check_two_at_once(client)

    client.logged.clear()
    await client.call_tool("test_tool_with_logging", {}, log=True)
    expect(client.logged == ["Started", "At work", "Done"], "log messages reach the call that they are of", client.logged)

    client.asked.clear()
    result = await client.call_tool("test_elicitation", {"message": "Who is there?"})
    expect(client.asked == ["Who is there?"], "the user is asked", client.asked)
    expect("It is me" in text_of(result), "and the answer goes back", result)

    client.asked.clear()
    result = await client.call_tool("test_sampling", {"prompt": "Say something."})
    expect(client.asked == ["Say something."], "the model is asked", client.asked)
    expect("Something" in text_of(result), "and its answer goes back", result)


async def check_two_at_once(client):
    """Two calls with progress, and others that begin and end while those wait."""
    totals = {"one": set(), "two": set()}
    both_run = asyncio.Event()

    async def walk(label, steps):
        async def progress(_done, total, _message):
            totals[label].add(total)
            if all(totals.values()):
                both_run.set()

        result = await client.call_tool("test_stepwise", {"label": label, "steps": steps}, progress)
        expect(text_of(result) == f"{label}: {steps} steps", f"call {label} gets its own answer", result)

    async def others():
        await both_run.wait()
        result = await client.call_tool("test_simple_text", {})
        expect(text_of(result) == "A simple text.", "a quick call does not wait for slow ones", result)
        for label in ["one", "two", "two"]:
            await client.call_tool("test_step", {"label": label})

    await asyncio.wait_for(asyncio.gather(walk("one", 1), walk("two", 2), others()), TIMEOUT_SECONDS)
    expect(totals == {"one": {1}, "two": {2}}, "each gets its own progress", totals)


async def check_cancelled(client, cancel):
    """`cancel(call)` runs the call and takes it back as soon as it has made progress."""
    await cancel(lambda progress: client.call_tool("test_stepwise", {"label": "x", "steps": 1}, progress))
    for _ in range(200):
        states = json.loads(text_of(await client.call_tool("test_steps", {})))
        if states.get("x") != "running":
            break
        await asyncio.sleep(0.05)
    expect(states.get("x") == "cancelled", "a call that is taken back ends in the core", states)
