#!/bin/sh
# Prints the containers that are unhealthy, restarting, or had to be restarted and are up only since seconds: for cron or a
# shell prompt. Needs python3 for the JSON. HOMELAB_MCP names the program if it is not on PATH, HOMELAB_ENV an env file.
set -eu
printf '%s\n' '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"docker_list_containers","arguments":{}}}' |
    RUST_LOG=error "${HOMELAB_MCP:-homelab-mcp}" ${HOMELAB_ENV:+--env-file "$HOMELAB_ENV"} |
    python3 -c '
import json, sys
line = sys.stdin.readline()
if not line:
    sys.exit(1)  # the program has said why on stderr
answer = json.loads(line)
if "error" in answer:
    sys.exit(answer["error"]["message"])
result = answer["result"]
if result.get("isError"):
    sys.exit(result["content"][0]["text"])
for c in result["structuredContent"]["containers"]:
    flaps = c.get("restart_count", 0) > 0 and "second" in c["status"]
    if c.get("health") == "unhealthy" or c["state"] == "restarting" or flaps:
        print(c["name"], c["status"], "restarts:", c.get("restart_count", "?"))
'
