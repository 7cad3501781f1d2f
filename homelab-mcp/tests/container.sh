#!/usr/bin/env bash
# container.sh BINARY: system_info from inside a container tells of the host.
#
# The container has its own processes, network and name; the host's root is mounted at /host,
# read-only, and HOST_ROOT says so. Needs DOCKER_HOST; `./test.sh --full` sets it.
set -euo pipefail

binary=$1
name=homelab-mcp-test-container-$$
image=homelab-test/homelab-mcp:$$
container_hostname=not-the-host
work=$(mktemp -d)
cleanup() {
    docker rm -f "$name" >/dev/null 2>&1 || true
    docker rmi "$image" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' INT TERM HUP

# The debug binary is linked dynamically: its libraries go where it looks for them. `ldd`
# prints "name => /path (address)" and, for the loader, "/path (address)".
mkdir "$work/root"
cp "$binary" "$work/root/homelab-mcp"
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$work/root$(dirname "$library")"
    cp -L "$library" "$work/root$library"
done
tar -C "$work/root" --owner=0 --group=0 -c . | docker import --change 'CMD ["/homelab-mcp"]' - "$image" >/dev/null

# One line in, end of input, one answer out: a server must answer what it took in.
request='{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"system_info","arguments":{}}}'
printf '%s\n' "$request" | timeout 60 docker run --rm -i --name "$name" --hostname "$container_hostname" \
    --network none --volume /:/host:ro --env HOST_ROOT=/host "$image" >"$work/answer"

python3 - "$work/answer" "$(hostname)" "$container_hostname" "$(df -B1 --output=size / | tail -n 1)" <<'PYTHON'
import json
import sys

path, host, container, size = sys.argv[1:]
size = int(size)
with open(path) as file:
    lines = [json.loads(line) for line in file]
answer = next((line for line in lines if line.get("id") == 1), None)


def fail(what):
    sys.exit(f"FAILED: {what}\n  answer: {json.dumps(answer)}")


if answer is None or "result" not in answer or answer["result"].get("isError"):
    fail("system_info answers")
info = answer["result"]["structuredContent"]

if container in json.dumps(info):
    fail(f"nothing in the answer has the container's name, {container}")
if info["hostname"] != host:
    fail(f"the host name is the host's, {host}")
print(f"  ok: the host name is the host's ({host})")

# An engine whose data is on the host's root disk gives containers the same size; the private
# one of test.sh has its data elsewhere for that reason.
sizes = {each["mount"]: each["total_bytes"] for each in info["filesystems"]}
if sizes.get("/") != size:
    fail(f'"/" has the size of the host\'s root filesystem, {size} bytes')
if any(mount == "/host" or mount.startswith("/host/") for mount in sizes):
    fail("mounts have the names that they have on the host")
print(f'  ok: "/" is the host\'s root filesystem ({size} bytes)')
PYTHON
