"""The image and the compose file, as a newcomer uses them, on a real engine:

    container.py GATEWAY CORE BUSYBOX

The compose folder is copied, `.env.example` becomes `.env` with a few values filled in, and `docker
compose` builds and starts what is in it. Nothing is pulled or installed: the two stages of the
Dockerfile that would do so are replaced by images made here, of programs that are there already.

Needs DOCKER_HOST, an image with a shell in HOMELAB_TEST_IMAGE, and to be where published ports
can be reached: in the engine's own network namespace, if it has one.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
from gateway import Failed, expect, poll, run

REPOSITORY = Path(__file__).resolve().parents[2]
STEP_SECONDS = 120
CALL_SECONDS = 60


def command(*words, cwd=None, environment=None, fine=True):
    """Runs a program; what it printed, or Failed."""
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{shlex.join(map(str, words))}: not within {STEP_SECONDS} s") from None
    if fine and done.returncode != 0:
        raise Failed(f"{shlex.join(map(str, words))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def docker(*words, **options):
    return command("docker", *words, **options).stdout.strip()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# --- images ---


def add(root, program, folder):
    """Copies a program, and its libraries to where it looks for them. `ldd` prints "name => /path (address)" and, for the
    loader, "/path (address)"; of a static program it says so and fails."""
    target = root / folder / Path(program).name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, target)
    add_libraries(root, program)


def add_libraries(root, program):
    for library in re.findall(r"(/\S+) \(0x", command("ldd", program, fine=False).stdout):
        copy = root / library.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, copy)


def import_image(name, root, *changes):
    words = ["docker", "import", *(word for change in changes for word in ("--change", change)), "-", name]
    with subprocess.Popen(["tar", "-C", root, "--owner=0", "--group=0", "-c", "."], stdout=subprocess.PIPE) as tar:
        done = subprocess.run(words, stdin=tar.stdout, capture_output=True, text=True, timeout=STEP_SECONDS)
    expect(done.returncode == 0 and tar.returncode == 0, f"{name} is made", done.stderr or None)


def compose_plugin():
    plugins = json.loads(docker("info", "--format", "{{json .ClientInfo.Plugins}}")) or []
    found = [plugin["Path"] for plugin in plugins if plugin["Name"] == "compose"]
    return found[0]


def make_images(work, gateway, core, busybox, builder, base):
    programs = work / "builder"
    (programs / "out").mkdir(parents=True)
    for program in (gateway, core):
        shutil.copy2(program, programs / "out")
    import_image(builder, programs)

    root = work / "base"
    for folder in ("tmp", "etc/ssl/certs"):
        (root / folder).mkdir(parents=True)
    # Debug builds are linked dynamically.
    for program in (gateway, core):
        add_libraries(root, program)
    add(root, shutil.which("docker"), "usr/bin")
    add(root, Path(compose_plugin()).resolve(), "usr/libexec/docker/cli-plugins")
    add(root, busybox, "bin")
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    if authorities.exists():
        shutil.copy2(authorities, root / "etc/ssl/certs")
    import_image(base, root, "ENV PATH=/usr/local/bin:/usr/bin:/bin")


# --- what is tested ---


class Deployment:
    """A copy of the compose folder, with names of its own beside whatever the engine has already."""

    def __init__(self, work, name, builder, base):
        self.name = name
        self.directory = work / "compose"
        self.directory.mkdir()
        for file in ("Dockerfile", "compose.yaml"):
            shutil.copy2(REPOSITORY / "compose" / file, self.directory)
        shutil.copy2(REPOSITORY / "compose/.env.example", self.directory / ".env")
        service = {
            "container_name": name,
            "build": {"args": {"BUILDER": builder, "BASE": base}},
            # So that nobody waits for half a minute.
            "healthcheck": {"interval": "1s"},
        }
        # JSON is YAML.
        (self.directory / "override.yaml").write_text(json.dumps({"services": {"homelab-mcp": service}}))
        kept = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "TMPDIR")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment |= {"COMPOSE_PROJECT_NAME": name, "COMPOSE_FILE": "compose.yaml:override.yaml"}

    def set(self, **values):
        """Fills in lines of `.env`, as an editor would."""
        path = self.directory / ".env"
        text = path.read_text()
        for name, value in values.items():
            text, found = re.subn(rf"^#?{name}=.*$", lambda _, line=f"{name}={value}": line, text, flags=re.M)
            if found != 1:
                raise Failed(f".env.example has {name} {found} times")
        path.write_text(text)

    def compose(self, *words, fine=True):
        done = command("docker", "compose", *words, cwd=self.directory, environment=self.environment, fine=fine)
        return done.stdout + done.stderr

    def up(self):
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", "60")
        except Failed as failed:
            raise Failed(f"{failed}\n--- its log ---\n{self.log()}") from None

    def log(self):
        return self.compose("logs", "--no-color", fine=False)[-20_000:]

    def inspect(self, template):
        return json.loads(docker("inspect", "--format", "{{json " + template + "}}", self.name))

    def health(self):
        return self.inspect(".State.Health.Status")

    def inside(self, *words, fine=True):
        return command("docker", "exec", self.name, "busybox", *words, fine=fine)

    def left(self):
        """What the engine has of this project."""
        mine = ("--filter", f"label=com.docker.compose.project={self.name}")
        return {
            kind: docker(*listing, *mine, "--format", "{{.Name}}" if kind != "container" else "{{.Names}}").split()
            for kind, listing in {
                "container": ("ps", "--all"),
                "network": ("network", "ls"),
                "volume": ("volume", "ls"),
            }.items()
        }


class Client:
    """What curl does, for calls that the README does not show."""

    def __init__(self, origin, bearer):
        self.origin, self.bearer = origin, bearer

    def rpc(self, method, params=None):
        message = {"jsonrpc": "2.0", "id": 1, "method": method} | ({"params": params} if params else {})
        headers = {"Authorization": f"Bearer {self.bearer}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.origin}/mcp", json.dumps(message).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{method}: {error.code} {error.read().decode(errors='replace')}") from None

    def tools(self):
        return {tool["name"] for tool in self.rpc("tools/list")["tools"]}

    def call(self, tool, **arguments):
        return self.rpc("tools/call", {"name": tool, "arguments": arguments})

    def change(self, tool, **arguments):
        result = self.call(tool, **arguments)
        content = result["structuredContent"]
        changed = content["outcome"] == "changed"
        expect(changed, f"{tool}: {content['message']}", None if changed else result)
        return content


def curls(document):
    """The curl commands of a document's shell blocks, each as it is printed."""
    text = (REPOSITORY / document).read_text()
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, flags=re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("curl ") and ("127.0.0.1:3005" in line or "mcp.example.com" in line)]


def run_curls(document, origin, values):
    """Runs them with just the address and the credentials put in, and gives the last token."""
    found = curls(document)
    seen = set()
    for line in found:
        for place in ("https://mcp.example.com", "http://127.0.0.1:3005"):
            line = line.replace(place, origin)
        for name, value in values.items():
            line = line.replace(name, value)
        done = command("timeout", str(CALL_SECONDS), "bash", "-c", line)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise Failed(f"{line}\n{done.stdout}{done.stderr}") from None
        if "/health" in line:
            fine, what = answer == {"status": "ok", "capability_level": 1}, "health"
        elif "/oauth/token" in line:
            fine, what = answer.get("expires_in") == 3600 and answer.get("token_type") == "Bearer", "token"
            values["YOUR_ACCESS_TOKEN"] = answer.get("access_token", "")
        else:
            fine, what = len(answer.get("result", {}).get("tools", [])) > 3, "list"
        seen.add(what)
        expect(fine, f"{document}: the curl for {what}", None if fine else answer)
    expect(seen >= {"health", "token", "list"}, f"{document} shows health, a token and the tools with it", found)
    return values["YOUR_ACCESS_TOKEN"]


def tells_of_the_host(client, container):
    result = client.call("system_info")
    info = result.get("structuredContent") or {}
    host = socket.gethostname()
    expect(info.get("hostname") == host, f"system_info: the host name is the host's, {host}", info.get("hostname"))
    expect(container not in json.dumps(info), "system_info: nothing has the container's name")
    root = os.statvfs("/")
    sizes = {each["mount"]: each["total_bytes"] for each in info["filesystems"]}
    expect(sizes.get("/") == root.f_blocks * root.f_frsize, 'system_info: "/" is the host\'s', sizes)


def is_confined(deployment, stacks):
    status = dict(line.split(":", 1) for line in deployment.inside("cat", "/proc/1/status").stdout.splitlines())
    expect(status["NoNewPrivs"].strip() == "1", "no new privileges")
    # CHOWN (0), DAC_OVERRIDE (1) and FOWNER (3).
    expect(int(status["CapBnd"], 16) == 0b1011, "three capabilities and no more", status["CapBnd"])
    for path in ("/usr/local/bin", "/host/var", str(stacks)):
        tried = deployment.inside("touch", f"{path}/homelab-test-may-not-be", fine=False)
        expect("Read-only file system" in tried.stderr, f"{path} is read-only", tried.stderr)


def health_follows_the_gateway(deployment):
    pids = deployment.inside("pidof", "mcp-gateway").stdout.split()
    expect(len(pids) == 1, "one gateway runs", pids)
    deployment.inside("kill", "-STOP", *pids)
    poll(lambda: deployment.health() == "unhealthy", "a gateway that does nothing is unhealthy", 60)
    deployment.inside("kill", "-CONT", *pids)
    poll(lambda: deployment.health() == "healthy", "it is healthy again", 60)
    print("  ok: health follows the gateway", flush=True)


def checks_are_as_described(deployment):
    said = deployment.compose("exec", "-T", "homelab-mcp", "homelab-mcp", "--check")
    expect("docker" in said.lower(), "`exec … homelab-mcp --check` tries the engine", said)
    said = deployment.compose("run", "--rm", "-T", "--env", "PUBLIC_URL=", "homelab-mcp", "--check", fine=False)
    expect("PUBLIC_URL: needed" in said, "`run … --check` says what is wrong with a configuration", said)


def a_stack_comes_and_goes(client, stacks, stack, image):
    # Heeds SIGTERM, so that nobody waits for its end.
    script = "trap exit TERM; while :; do sleep 1 & wait $$!; done"
    text = f"services:\n  app:\n    image: {image}\n    command: [sh, -c, '{script}']\n    volumes: ['./data:/data']\n"
    client.change("docker_write_compose", stack=stack, compose=text)
    files = [file.read_text() for file in (stacks / stack).glob("*.y*ml")]
    expect(files == [text], "the file is on the host", files)
    client.change("docker_compose_up", stack=stack)
    ours = ("--filter", f"label=com.docker.compose.project={stack}")
    containers = docker("ps", *ours, "--format", "{{.Names}}").split()
    expect(len(containers) == 1, "its container runs on the host's engine", containers)
    source = json.loads(docker("inspect", "--format", "{{json .Mounts}}", containers[0]))[0]["Source"]
    expect(source == str(stacks / stack / "data"), "its relative folder is the host's", source)
    rows = client.call("docker_list_stacks")["structuredContent"]["stacks"]
    managed = [row["name"] for row in rows if row["managed"]]
    expect(managed == [stack], "docker_list_stacks has it", rows)
    client.change("docker_compose_down", stack=stack)
    expect(docker("ps", "--all", *ours, "--quiet") == "", "its container is gone")
    expect(docker("network", "ls", *ours, "--quiet") == "", "its network is gone")


# --- the way through ---


def follow(gateway, core, busybox, work, name, images):
    builder, base, image = images
    make_images(work, gateway, core, busybox, builder, base)
    test_image = os.environ["HOMELAB_TEST_IMAGE"]
    stacks = work / "stacks"
    stacks.mkdir()

    deployment = Deployment(work, name, builder, base)
    key, client_id, client_secret = (secrets.token_hex(32) for _ in range(3))
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    deployment.set(
        API_KEY=key,
        OAUTH_CLIENT_ID=client_id,
        OAUTH_CLIENT_SECRET=client_secret,
        PUBLIC_URL="https://mcp.example.com",
        PORT=port,
        DOCKGE_STACKS_PATH=stacks,
        DOCKER_SOCKET=os.environ["DOCKER_HOST"].removeprefix("unix://"),
        IMAGE=image,
    )
    slave = command("docker", "run", "--rm", "--volume", "/:/host:ro,rslave", test_image, "true", fine=False)
    if "shared or slave" in slave.stderr:
        print("  note: HOST_MODE=ro, since / is not a shared mount where this engine runs", flush=True)
        deployment.set(HOST_MODE="ro")

    # As it comes: level 1.
    try:
        deployment.compose("build")
        deployment.up()
        expect(deployment.health() == "healthy", "the image is built, and what it starts is healthy")
        values = {"YOUR_CLIENT_ID": client_id, "YOUR_CLIENT_SECRET": client_secret, "YOUR_API_KEY": key}
        token = run_curls("README.md", origin, values)
        client, bearer = Client(origin, token), Client(origin, key)
        expect(client.tools() == bearer.tools(), "a token and API_KEY see the same tools")
        expect("docker_write_compose" not in client.tools(), "none of them writes")
        rows = client.call("docker_list_containers")["structuredContent"]["containers"]
        expect(name in [row["name"] for row in rows], "docker_list_containers asks the host's engine")
        tells_of_the_host(client, deployment.inside("hostname").stdout.strip())
        is_confined(deployment, stacks)
        health_follows_the_gateway(deployment)
        checks_are_as_described(deployment)

        deployment.compose("stop")
        expect(deployment.inspect(".State.ExitCode") == 0, "`docker compose stop` is heeded in order")
        deployment.up()
        expect(client.tools() == bearer.tools(), "a token outlives a restart")
        deployment.compose("down")
        expect(deployment.left() == {"container": [], "network": [], "volume": [f"{name}_state"]}, "`down` leaves the volume")

        # Level 4, first without the writable mount.
        deployment.set(CAPABILITY_LEVEL=4)
        deployment.up()
        expect("docker_write_compose" not in client.tools(), "a token of level 1 stays one, also in a new container")
        refused = bearer.call("docker_write_compose", stack=name, compose="services: {}\n")
        said = refused["structuredContent"]["message"]
        expect(refused["isError"] and "read-only" in said, f"level 4 with STACKS_MODE=ro: {said}")
        deployment.set(STACKS_MODE="rw")
        deployment.up()
        a_stack_comes_and_goes(bearer, stacks, f"{name}-stack", test_image)
        expect("panicked at" not in deployment.log(), "no panic in the log")
        deployment.compose("down", "--volumes")
        expect(not any(deployment.left().values()), "`down --volumes` leaves nothing", deployment.left())
    except BaseException:
        print(f"--- the container's log ---\n{deployment.log()}---", flush=True)
        raise
    finally:
        deployment.compose("down", "--volumes", "--timeout", "5", fine=False)


def main(gateway, core, busybox):
    name = f"homelab-mcp-test-{os.getpid()}"
    images = [f"homelab-test/{part}:{os.getpid()}" for part in ("builder", "base", "homelab-mcp")]
    with tempfile.TemporaryDirectory(prefix="homelab-container.") as work:
        try:
            follow(gateway, core, busybox, Path(work).resolve(), name, images)
        finally:
            # Whatever is left of the stack, should the tools have failed.
            ours = ("--filter", f"label=com.docker.compose.project={name}-stack")
            for container in docker("ps", "--all", *ours, "--quiet", fine=False).split():
                docker("rm", "--force", container, fine=False)
            for network in docker("network", "ls", *ours, "--quiet", fine=False).split():
                docker("network", "rm", network, fine=False)
            docker("rmi", "--force", *images, fine=False)


run(main, *sys.argv[1:])
