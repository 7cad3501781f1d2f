#!/usr/bin/env python3
"""Goes through every tool, on the lab's stand-ins and on this machine's Docker: no appliance is needed.

    cargo run --release -p lab                                         (in another terminal; Ctrl-C ends it)
    examples/tour.py target/release/homelab-mcp target/lab.env

What it makes in Docker is one stack, homelab-tour, in a folder of its own; it is taken down again. Without Docker those
steps say so. TOUR_IMAGE names an image with a shell (busybox), which the engine may have to pull.
"""
import json
import os
import subprocess
import sys
import tempfile

if len(sys.argv) != 3:
    sys.exit(__doc__)
program, env_file = sys.argv[1:]
work = tempfile.TemporaryDirectory(prefix="homelab-tour-")
image = os.environ.get("TOUR_IMAGE", "busybox")
core = subprocess.Popen(
    [program, "--env-file", env_file],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ
    | {
        "CAPABILITY_LEVEL": "manage",
        "TOOLSETS": "all",
        "STATE_DIR": f"{work.name}/state",
        "DOCKGE_STACKS_PATH": f"{work.name}/stacks",
        "RUST_LOG": os.environ.get("RUST_LOG", "error"),
    },
)
os.mkdir(f"{work.name}/stacks")
requests = 0


def ask(method, params):
    """One request, one line; the answer is the next line."""
    global requests
    requests += 1
    core.stdin.write(json.dumps({"jsonrpc": "2.0", "id": requests, "method": method, "params": params}) + "\n")
    core.stdin.flush()
    line = core.stdout.readline()
    if not line:
        sys.exit("homelab-mcp ended; it has said why above")
    answer = json.loads(line)
    if "error" in answer:
        sys.exit(answer["error"]["message"])
    return answer["result"]


tools = {tool["name"] for tool in ask("tools/list", {})["tools"]}
shown, failed = set(), []


def call(tool, show, **arguments):
    """Calls a tool and prints what `show` makes of its result."""
    shown.add(tool)
    result = ask("tools/call", {"name": tool, "arguments": arguments})
    told = result.get("structuredContent") or {}
    if told.get("outcome") == "needs_confirmation":
        print(f"{tool:<27} asks first: {told['message'].split('. ')[0]}.")
        # Here the user would be asked. The code works once, for this very call.
        result = ask("tools/call", {"name": tool, "arguments": arguments | {"confirm": told["confirm"]}})
        told = result.get("structuredContent") or {}
    if result.get("isError"):
        failed.append(tool)
        text = told.get("message") or result["content"][0]["text"]
        print(f"{tool:<27} FAILED: {text}")
        return None
    print(f"{tool:<27} {show(told)}")
    return told


def said(told):
    return told["message"].splitlines()[0]


def some(rows, key):
    names = [str(row[key]) for row in rows[:4]]
    return ", ".join(names) + (f" and {len(rows) - 4} more" if len(rows) > 4 else "")


def heading(text):
    print(f"\n-- {text}")


heading("this machine")
call("system_info", lambda t: f"{t['hostname']}: CPU {t['cpu_percent']} %, memory {t['memory_percent']} %, up {t['uptime_hours']} h")

heading("Proxmox VE")
call("proxmox_status", lambda t: f"{t['version']}, {t['guests']['total']} guests on {some(t['nodes'], 'node')}")
call("proxmox_list_nodes", lambda t: ", ".join(f"{n['node']} {n['status']}" for n in t["nodes"]))
call("proxmox_list_vms", lambda t: f"{t['total']} guests: {some(t['vms'], 'name')}")
call("proxmox_list_storage", lambda t: some([s for s in t["storage"] if s["active"]], "storage"))
call("proxmox_list_backups", lambda t: f"of VM 105: {t['total']}, the newest {t['backups'][0]['created']} on {t['backups'][0]['storage']}", vmid=105)
call("proxmox_vm_config", lambda t: f"{t['name']}: {t['cores']} cores, {t['memory']} MiB, {t['disk']}", vmid=105)
call("proxmox_start_vm", said, vmid=105)
call("proxmox_vm_status", lambda t: f"{t['name']} is {t['status']} on {t['node']}", name="docker")
call("proxmox_create_snapshot", said, vmid=105, snapname="before-tour")
call("proxmox_list_snapshots", lambda t: some(t["snapshots"], "name"), vmid=105)
# Another guest for these: no object may be changed more than six times in ten minutes (CHANGES_PER_OBJECT).
call("proxmox_reboot_vm", said, vmid=100)
call("proxmox_shutdown_vm", said, vmid=100)
call("proxmox_stop_vm", said, vmid=105)
call("proxmox_delete_vm", said, vmid=105)

heading("TrueNAS")
call("truenas_status", lambda t: f"{t['version']}: " + ", ".join(f"{p['name']} {p['status']}" for p in t["pools"]))
call("truenas_alerts", lambda t: f"{t['total']}: {t['alerts'][0]['level']} {t['alerts'][0]['message'][:60]}")
datasets = call("truenas_list_datasets", lambda t: f"{t['total']}: {some(t['datasets'], 'name')}")
dataset = next(d["name"] for d in datasets["datasets"] if d["mountpoint"] != "none") if datasets else "tank"
call("truenas_create_snapshot", said, dataset=dataset, name="tour")
call("truenas_list_snapshots", lambda t: some(t["snapshots"], "name"), dataset=dataset)
call("truenas_dataset_info", lambda t: f"{t['name']}: {t['used']} used, {t['snapshots']} snapshots", dataset=dataset)

heading("OPNsense")
call("opnsense_status", lambda t: f"{t['version']}, up {t['uptime']}, gateways {t['gateway_status']}, {len(t['services'])} services")
call("opnsense_service_restart", said, service="cron")

heading("Docker")
file = f"services:\n  web:\n    image: {image}\n    command: sh -c 'echo hello; sleep 3600'\n    init: true\n"
listed = call("docker_list_containers", lambda t: f"{t['total']} containers")
if listed is None:
    failed.remove("docker_list_containers")
    print("(no Docker here: its steps are left out)")
    shown |= {tool for tool in tools if tool.startswith("docker_")}
else:
    call("docker_write_compose", said, stack="homelab-tour", compose=file)
    call("docker_read_compose", lambda t: f"{len(t['compose'].splitlines())} lines, sha256 {t['sha256'][:12]}…", stack="homelab-tour")
    try:
        call("docker_compose_up", said, stack="homelab-tour", wait_seconds=300)
        call("docker_list_stacks", lambda t: ", ".join(f"{s['name']} {s['state']}" for s in t["stacks"] if s["managed"]))
        web = "homelab-tour-web-1"
        call("docker_exec", lambda t: f"exit code {t['exit_code']}: {t['stdout']}", container=web, command="echo from inside")
        call("docker_container_stats", lambda t: f"{t['memory_usage_mb']} MiB", container=web)
        call("docker_inspect_container", lambda t: f"image {t['config']['Config']['Image']}", container=web)
        call("docker_restart_container", said, container=web)
        call("docker_stop_container", said, container=web)
        call("docker_start_container", said, container=web)
        call("docker_container_logs", lambda t: " ".join(t["logs"].split())[:60], container=web)
        call("docker_list_networks", lambda t: some(t["networks"], "name"))
        call("docker_list_volumes", lambda t: f"{t['total']} volumes")
    finally:
        call("docker_compose_down", said, stack="homelab-tour", wait_seconds=120)

heading("what ran")
call("operation_status", lambda t: f"{len(t['operations'])} changes in this process, the last: {t['operations'][0]['tool']} {t['operations'][0]['outcome']}")
core.stdin.close()
core.wait(timeout=30)
if tools - shown:
    failed.append("not shown: " + ", ".join(sorted(tools - shown)))
print(f"\n{len(shown)} tools" + (f"; {'; '.join(failed)}" if failed else ", all well"))
sys.exit(1 if failed else 0)
