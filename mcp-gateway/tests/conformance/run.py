"""The official conformance suite against a gateway:

    run.py NODE SUITE GATEWAY BASELINE LOGS ERAS CORE [ARGUMENT]...

NODE and SUITE are the programs (see package.json); CORE is the MCP server that the gateway has
behind it, which speaks ERAS: "both", "legacy" or "modern". BASELINE names what that server is
expected to fail, each with its reason; whatever else fails, and whatever does not fail any
more, fails the run. What the suite says is kept in LOGS when it fails.

The suite's exit code is not taken for granted: a run must also have judged something.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from gateway import Failed, Gateway, run

SUITE_SECONDS = 300
PROXY = Path(__file__).with_name("header-proxy.mjs")

# The frozen sets, each over its own wire, and what is about HTTP and came too late for them.
RUNS = {
    "modern": {
        "2026-07-28": ["--requirements", "2026-07-28"],
        "headers": ["--scenario", "http-header-validation", "--spec-version", "2026-07-28"],
        "rebinding-2026": ["--scenario", "dns-rebinding-protection", "--spec-version", "2026-07-28"],
    },
    "legacy": {
        "2025-11-25": ["--requirements", "2025-11-25"],
        "sessions": ["--scenario", "server-session-lifecycle", "--spec-version", "2025-11-25"],
        "rebinding-2025": ["--scenario", "dns-rebinding-protection", "--spec-version", "2025-11-25"],
    },
}


def main(node, suite, binary, baseline, logs, eras, *core):
    logs = Path(logs)
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    runs = {name: what for era, runs in RUNS.items() if eras in (era, "both") for name, what in runs.items()}
    with Gateway(binary, core) as gateway:
        authorization = f"Authorization: Bearer {gateway.key}"
        proxy = subprocess.Popen([node, PROXY, gateway.origin, authorization], stdout=subprocess.PIPE, text=True)
        try:
            url = f"http://127.0.0.1:{int(proxy.stdout.readline())}/mcp"
            failed = [name for name, what in runs.items() if not judged(node, suite, url, name, what, baseline, logs)]
        finally:
            proxy.kill()
            proxy.wait()
        if failed:
            raise Failed(f"conformance: {', '.join(failed)}; see {logs}")
    shutil.rmtree(logs)


def judged(node, suite, url, name, what, baseline, logs):
    """Runs one part; whether it is as the baseline has it."""
    results, log = logs / name, logs / f"{name}.log"
    command = [node, suite, "server", "--url", url, *what, "--expected-failures", baseline, "--output-dir", results]
    with log.open("wb") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=SUITE_SECONDS).returncode
    checks = {file: json.loads(file.read_text()) for file in results.glob("*/checks.json")}
    passed = sum(check["status"] == "SUCCESS" for found in checks.values() for check in found)
    print(f"  {name}: {passed} checks passed, exit status {status}", flush=True)
    if status == 0 and passed:
        return True
    said = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
    verdict = said.partition("Stale baseline entries")
    verdict = "".join(verdict[1:]) or "".join(said.partition("Unexpected failures")[1:]) or said[-2_000:]
    print("\n".join(f"    {line}" for line in verdict.splitlines() if line), flush=True)
    unexpected = {entry.partition(":")[0] for entry in re.findall(r"^\s+✗ (\S+)", verdict, re.MULTILINE)}
    for file, found in checks.items():
        if not any(file.parent.name.startswith(f"server-{scenario}-20") for scenario in unexpected):
            continue
        for check in found:
            if check["status"] in ("FAILURE", "WARNING"):
                print(f"    {check['status']} {check['id']}: {check.get('errorMessage')}", flush=True)
    return False


run(main, *sys.argv[1:])
