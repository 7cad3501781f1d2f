# shellcheck shell=bash
# The groups of the test command that look at the gateway from outside. Sourced by test.sh,
# whose functions and variables they use.

GATEWAY_TESTS=mcp-gateway/tests

# What all of them start: debug builds, whose paths these are.
gateway_programs() {
    cargo build --locked -p mcp-gateway -p homelab-mcp -p fixture
    GATEWAY=$PWD/target/debug/mcp-gateway
    CORE=$PWD/target/debug/homelab-mcp
    FIXTURE=$PWD/target/debug/fixture
    export PYTHONDONTWRITEBYTECODE=1 # nothing is written beside the sources
    export TMPDIR=$STATE             # removed at exit, whatever happens
}

# --foreground: in the group's own process group, so that Ctrl-C reaches it. The Python programs
# end what they have started when they are ended.
bounded() { timeout --foreground --kill-after 30 600 "$@"; }

# --- conformance --------------------------------------------------------------------------

group_conformance() {
    conformance_suite || return 0
    gateway_programs
    local fixture=$GATEWAY_TESTS/conformance/baseline-fixture.yml
    conformance homelab-mcp "$GATEWAY_TESTS/conformance/baseline-product.yml" both "$CORE"
    conformance fixture "$fixture" both "$FIXTURE"
    # Servers that speak one era only, as most do.
    conformance fixture-legacy "$fixture" legacy "$FIXTURE" legacy
    conformance fixture-modern "$fixture" modern "$FIXTURE" modern
}

# conformance NAME BASELINE ERAS CORE [ARGUMENT]…
conformance() {
    local name=$1 baseline=$2
    shift 2
    say "$name:"
    bounded python3 "$GATEWAY_TESTS/conformance/run.py" "$NODE" "$SUITE" "$GATEWAY" "$baseline" "$PWD/target/conformance/$name" "$@"
}

# Sets NODE and SUITE; false, with the reason said, when they cannot be had. The versions are
# those of package-lock.json. Node comes along as a package, since the suite needs 22 and
# distributions have older ones; npm may be any.
conformance_suite() {
    local dir=$CACHE/conformance made_for lock=$GATEWAY_TESTS/conformance/package-lock.json
    made_for=$(sha256sum <"$lock")
    if [[ ! -f $dir/made-for || $(<"$dir/made-for") != "$made_for" ]]; then
        have npm || apt_install npm || { cannot "npm is missing and could not be installed"; return 1; }
        rm -rf "$dir"
        mkdir -p "$dir"
        cp "$GATEWAY_TESTS/conformance/package.json" "$lock" "$dir"
        # No package here needs a script to be run, and none is.
        (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
        printf '%s' "$made_for" >"$dir/made-for"
    fi
    SUITE=$dir/node_modules/@modelcontextprotocol/conformance/dist/index.js
    # Which one is there depends on the machine.
    for NODE in "$dir"/node_modules/node-linux-*/bin/node; do
        "$NODE" --version >/dev/null 2>&1 && return 0
    done
    cannot "there is no Node 22 for this kind of machine"
    return 1
}

# --- clients ------------------------------------------------------------------------------

group_http_clients() {
    gateway_programs
    if [[ -z $ENGINE_WHY ]]; then
        # So that the list of containers is not empty. The label is for `cleanup`, for an engine
        # that outlives this run.
        export HOMELAB_TEST_CONTAINER=homelab-mcp-test-http-clients-$$
        docker run --detach --name "$HOMELAB_TEST_CONTAINER" --label "homelab-mcp-test=$$" "$NOSHELL_IMAGE" >/dev/null
    else
        # docker_list_containers is left out then, the rest counts.
        unset HOMELAB_TEST_DOCKER_HOST
        printf '%s\n' "http-clients: without docker_list_containers ($ENGINE_WHY)" >>"$STATE/notes"
    fi
    venv mcp-2 "$CLIENT_2_PACKAGE"
    venv mcp-1 "$CLIENT_1_PACKAGE"
    local mode
    for mode in auto legacy 2026-07-28; do
        bounded "$CACHE/mcp-2/bin/python" "$GATEWAY_TESTS/clients/client_2.py" "$mode" "$GATEWAY" "$CORE" "$FIXTURE"
    done
    bounded "$CACHE/mcp-1/bin/python" "$GATEWAY_TESTS/clients/client_1.py" "$GATEWAY" "$CORE" "$FIXTURE"
    bounded python3 "$GATEWAY_TESTS/clients/crowd.py" "$GATEWAY" "$FIXTURE"
}

# --- sign-in ------------------------------------------------------------------------------

# The Python client signs in by itself, and the conformance suite looks at the authorization server.
group_sign_in() {
    conformance_suite || return 0
    gateway_programs
    venv mcp-2 "$CLIENT_2_PACKAGE"
    local mode
    for mode in auto legacy 2026-07-28; do
        bounded "$CACHE/mcp-2/bin/python" "$GATEWAY_TESTS/sign-in/oauth.py" "$mode" "$GATEWAY" "$CORE"
    done
    bounded python3 "$GATEWAY_TESTS/sign-in/conformance.py" "$GATEWAY" "$CORE" "$NODE" "$SUITE"
}

# A real Chromium through the pages on which the owner lets an app in.
group_browser() {
    local program missing=()
    for program in npm chromium openssl; do have "$program" || missing+=("$program"); done
    ((${#missing[@]} == 0)) || apt_install "${missing[@]}" || { cannot "${missing[*]} missing and could not be installed"; return 0; }
    gateway_programs
    local dir=$CACHE/browser tests=$GATEWAY_TESTS/browser made_for
    made_for=$(sha256sum <"$tests/package-lock.json")
    if [[ ! -f $dir/made-for || $(<"$dir/made-for") != "$made_for" ]]; then
        rm -rf "$dir"
        mkdir -p "$dir"
        cp "$tests/package.json" "$tests/package-lock.json" "$dir"
        (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
        printf '%s' "$made_for" >"$dir/made-for"
    fi
    cp "$tests"/*.mjs "$dir"
    bounded node "$dir/run.mjs" "$GATEWAY" "$CORE" "$PWD/target/screenshots"
    say "screenshots are in target/screenshots"
}

# --- proxies ------------------------------------------------------------------------------

group_proxies() {
    local missing=()
    have nginx || [[ -x /usr/sbin/nginx ]] || missing+=(nginx)
    have caddy || missing+=(caddy)
    have openssl || missing+=(openssl)
    ((${#missing[@]} == 0)) || apt_install "${missing[@]}" || { cannot "${missing[*]} missing and could not be installed"; return 0; }
    gateway_programs
    local nginx=/usr/sbin/nginx # not on every user's PATH
    [[ -x $nginx ]] || nginx=$(command -v nginx)
    bounded python3 "$GATEWAY_TESTS/proxies/run.py" nginx "$nginx" compose/proxies/nginx.conf "$GATEWAY" "$FIXTURE"
    bounded python3 "$GATEWAY_TESTS/proxies/run.py" caddy "$(command -v caddy)" compose/proxies/Caddyfile "$GATEWAY" "$FIXTURE"
}

# --- container ----------------------------------------------------------------------------

group_gateway_container() {
    need_engine || return 0
    # The checks compare with this machine's own name and disk, and mount its folders.
    [[ $HOMELAB_TEST_DOCKER_HOST == unix://* ]] || { cannot "the engine is not on this machine"; return 0; }
    gateway_programs
    # Ports that a private engine publishes are in its network namespace, and so is this; also
    # when it is the one of another `test.sh --engine`.
    local there=() socket=${HOMELAB_TEST_DOCKER_HOST#unix://} pid=$ENGINE_PID
    [[ -n $pid ]] || pid=$(cat "${socket%/*}/docker.pid" 2>/dev/null || true)
    [[ -z $pid ]] || ((EUID != 0)) || there=(nsenter "--net=/proc/$pid/ns/net" --)
    bounded "${there[@]}" python3 "$GATEWAY_TESTS/container.py" "$GATEWAY" "$CORE" "$CACHE/busybox"
}
