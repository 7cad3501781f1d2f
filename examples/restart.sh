#!/bin/sh
# Restarts one container and waits until it is known whether it comes up: examples/restart.sh jellyfin
# Exits 0 only if the container runs. Needs python3 for the JSON; HOMELAB_MCP names the program if it is not on PATH,
# HOMELAB_ENV an env file, for example the one with your PROTECTED.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 CONTAINER" >&2; exit 64; }
python3 -c '
import json, sys
print(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                  "params": {"name": "docker_restart_container", "arguments": {"container": sys.argv[1]}}}))
' "$1" |
    CAPABILITY_LEVEL=2 RUST_LOG=error "${HOMELAB_MCP:-homelab-mcp}" ${HOMELAB_ENV:+--env-file "$HOMELAB_ENV"} |
    python3 -c '
import json, sys
line = sys.stdin.readline()
if not line:
    sys.exit(1)  # the program has said why on stderr
answer = json.loads(line)
if "error" in answer:
    sys.exit(answer["error"]["message"])
result = answer["result"]
said = result.get("structuredContent") or {}
print(said.get("message") or result["content"][0]["text"])
sys.exit(0 if said.get("success") else 1)
'
