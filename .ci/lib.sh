# Sourced by the scripts of this folder: temporary files, free ports, tools, one registry.
#
# KELSON_CI_CACHE  where fetched tools are kept between runs (default ~/.cache/kelson-ci)
# REGISTRY_CMD     the server under test (default: the release binary's `serve`); anything that
#                  obeys distribution's REGISTRY_* environment, so a peer can stand in
# shellcheck shell=bash

# shellcheck disable=SC2034 # for the scripts that source this file
repository_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tool_cache=${KELSON_CI_CACHE:-$HOME/.cache/kelson-ci}
export PATH="$tool_cache/bin:$PATH"
work=$(mktemp -d)
# One set of features for every build of the profile `checked`, so that it is compiled once; both do
# nothing until they are asked to.
# shellcheck disable=SC2034 # for the scripts that source this file
checked_features=failpoints,sim
started_pids=()
# Commands of a script that must run before the processes are stopped and $work is removed.
cleanup_hooks=()

cleanup() {
    local status=$? hook pid
    trap - EXIT INT TERM
    for hook in "${cleanup_hooks[@]}"; do "$hook" || true; done
    for pid in "${started_pids[@]}"; do stop_process "$pid"; done
    rm -rf --one-file-system "$work" || true
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Ends a process that this script started: asks first, and kills after ten seconds.
stop_process() {
    local pid=$1 _
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# apt_install COMMAND=PACKAGE...: installs the packages whose commands are missing.
apt_install() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    apt_packages "${missing[@]}"
}

# apt_packages PACKAGE...: installs them; their services stay off, the scripts start their own.
apt_packages() {
    local policy=/usr/sbin/policy-rc.d made=no status=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=yes
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "$@"; } >"$work/apt.log" 2>&1 || status=$?
    [[ $made == no ]] || rm -f "$policy"
    ((status == 0)) || { tail -20 "$work/apt.log" >&2 && die "apt-get could not install $*"; }
}

# go_tool COMMAND MODULE@VERSION: builds a Go program once and keeps it under its version.
go_tool() {
    local name=$1 module=$2 folder="$tool_cache/go/$1@${2##*@}"
    command -v go >/dev/null || die "go is missing (1.24 or newer)"
    if [[ ! -x $folder/$name ]]; then
        say "building $module"
        mkdir -p "$folder"
        GOBIN="$folder" CGO_ENABLED=0 GOFLAGS=-buildvcs=false go install "$module" \
            >"$work/go.log" 2>&1 || { tail -20 "$work/go.log" >&2 && die "go install $module failed"; }
    fi
    mkdir -p "$tool_cache/bin"
    ln -sf "$folder/$name" "$tool_cache/bin/$name"
}

# free_port: a TCP port that nobody listens on, below those that the kernel gives to clients.
free_port() {
    python3 - <<'PY'
import random, socket
while True:
    port = random.randrange(20_000, 32_000)
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        continue
    print(port)
    break
PY
}

# start_registry FOLDER [NAME=VALUE...]: starts the server under test on an own store.
# Sets registry_pid, registry_address (host:port) and registry_log.
start_registry() {
    local folder=$1 port command _
    shift
    port=$(free_port)
    registry_address=127.0.0.1:$port
    registry_log=$work/registry-$port.log
    mkdir -p "$folder"
    read -ra command <<<"${REGISTRY_CMD:-$repository_root/target/release/kelson serve}"
    env -u REGISTRY_CMD REGISTRY_HTTP_ADDR="$registry_address" OTEL_TRACES_EXPORTER=none \
        REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$folder" "$@" "${command[@]}" \
        >"$registry_log" 2>&1 &
    registry_pid=$!
    started_pids+=("$registry_pid") && disown "$registry_pid"
    for _ in $(seq 100); do
        curl -fsS -o /dev/null "http://$registry_address/v2/" 2>/dev/null && return 0
        kill -0 "$registry_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$registry_log" >&2
    die "the registry did not start: ${command[*]}"
}

# enter_own_network SCRIPT [ARGUMENT...]: goes on in a network namespace with nothing but
# loopback, where every port is free and nothing outside can be reached. Call it after
# everything has been installed; does nothing when it is already there.
enter_own_network() {
    if [[ ${KELSON_OWN_NETWORK:-} == "$$" ]]; then
        ip link set lo up
        return 0
    fi
    [[ $(id -u) == 0 ]] || die "$1 needs root: it starts a Docker engine of its own"
    apt_install ip=iproute2 unshare=util-linux
    rm -rf "$work"
    # unshare execs the script in its own place, so the process id tells that it is inside.
    export KELSON_OWN_NETWORK=$$
    exec unshare --net -- "$@"
}

# own_mounts SCRIPT [ARGUMENT...]: goes on in a mount namespace of its own, so that whatever is
# mounted there, and its loop devices, end with the script, however that ends. Without root it
# fails: what needs a file system of its own is not skipped.
own_mounts() {
    [[ ${KELSON_OWN_MOUNTS:-} != "$$" ]] || return 0
    [[ $(id -u) == 0 ]] || die "$1 needs root: it mounts file systems of its own"
    apt_install unshare=util-linux
    rm -rf "$work"
    # unshare execs the script in its own place, so the process id tells that it is inside.
    export KELSON_OWN_MOUNTS=$$
    exec unshare --mount --propagation private -- "$@"
}

# build_failpoints: $failpoint_binary, which can be made to die at a named place, and to break a
# promise (KELSON_MUTANT), so that a test is seen to notice. No release has either.
build_failpoints() {
    say "building with failpoints"
    (cd "$repository_root" && cargo build --quiet --profile checked --bin kelson \
        --features "$checked_features")
    # A copy, because the next suite may build another one in its place.
    failpoint_binary=$work/kelson-failpoints
    cp "$repository_root/target/checked/kelson" "$failpoint_binary"
}

# caught MUTANT COMMAND...: whether the command, with `--mutant MUTANT`, fails with exit status 1:
# something was lost, and that was noticed.
caught() {
    local mutant=$1 status=0 log=$work/$1.log
    shift
    "$@" --mutant "$mutant" >"$log" 2>&1 || status=$?
    grep -E '^ +[A-Z]+ |^RESULT' "$log" | sed -E "s/^RESULT ([a-z]+)/RESULT \\1-$mutant/" || true
    ((status == 1)) || { tail -20 "$log" && return 1; }
}

# verdict WHAT COMMAND...: runs it and says whether it passed; a failure sets $failed.
verdict() {
    local what=$1
    shift
    if "$@"; then
        say "PASS $what"
    else
        say "FAIL $what"
        failed=1
    fi
}

# start_docker FOLDER [OPTION...]: Debian's Docker engine with folders and a socket of its own.
# Defines docker_network (what it could set up) and points DOCKER_HOST to it.
start_docker() {
    local folder=$1 attempt _ pid
    shift
    mkdir -p "$folder/client" && folder=$(realpath "$folder")
    printf '{}\n' >"$folder/client/config.json" # other clients read it too
    export DOCKER_HOST=unix://$folder/docker.sock DOCKER_CONFIG=$folder/client DOCKER_BUILDKIT=0
    docker_log=$folder/dockerd.log
    for attempt in "" "--iptables=false --ip6tables=false"; do
        # shellcheck disable=SC2086 # several options
        dockerd --data-root "$folder/data" --exec-root "$folder/exec" -H "$DOCKER_HOST" \
            --pidfile "$folder/pid" $attempt "$@" >"$docker_log" 2>&1 &
        pid=$!
        started_pids+=("$pid") && disown "$pid"
        for _ in $(seq 300); do
            if docker info >/dev/null 2>&1; then
                docker_network="bridge${attempt:+ $attempt, published by the user-land proxy}"
                return 0
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        stop_process "$pid"
        say "dockerd did not start with '${attempt:-its defaults}': $(tail -1 "$docker_log")"
    done
    die "no Docker engine, see above"
}

# The client of the same package; another one may come first in PATH.
docker() { /usr/bin/docker "$@"; }

# make_busybox_root FOLDER: a root file system from Debian's static busybox.
make_busybox_root() {
    local folder=$1 applet
    mkdir -p "$folder"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,var}
    chmod 1777 "$folder/tmp"
    cp /bin/busybox "$folder/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [[ -e $folder/bin/$applet ]] || ln -s busybox "$folder/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$folder/etc/passwd"
    printf 'root:x:0:\n' >"$folder/etc/group"
    printf 'NAME="BusyBox"\nID=busybox\nPRETTY_NAME="%s"\n' \
        "$(/bin/busybox | head -1 | cut -d' ' -f1,2)" >"$folder/etc/os-release"
}

# run_suite NAME: run_NAME in a shell of its own, so that its first failing command ends it.
run_suite() {
    local name=$1 began=$SECONDS status=0
    say ""
    say "=== $name"
    set +e
    (
        trap - EXIT INT TERM
        set -e
        "run_$name"
    )
    status=$?
    set -e
    local seconds=$((SECONDS - began))
    if ((status == 0)); then
        summary+=("PASS $name (${seconds} s)")
        passed=$((passed + 1))
    else
        summary+=("FAIL $name (${seconds} s, exit status $status)")
        failed=$((failed + 1))
    fi
    say "=== ${summary[-1]}"
}

# run_suites [NAME...]: these, or else all of $suites; goes on after a failure, so that one run
# shows them all, and ends with a summary and their figures.
run_suites() {
    local name log=$work/output.log
    passed=0 failed=0 summary=()
    for name in "$@"; do
        [[ " ${suites[*]} " == *" $name "* ]] || die "no suite $name; there are: ${suites[*]}"
    done
    (($#)) || set -- "${suites[@]}"
    # In a container or a fresh machine these are what the scripts themselves lean on.
    apt_install curl=curl python3=python3 cc=gcc git=git
    for name in "$@"; do
        # No pipe: it would keep the summary in a shell of its own.
        run_suite "$name" > >(tee -a "$log")
        wait "$!" || true
    done
    say ""
    grep '^RESULT ' "$log" || true
    printf '%s\n' "${summary[@]}"
    say "whole run: $((SECONDS / 60)) min $((SECONDS % 60)) s"
    say "$passed passed, $failed failed"
    ((failed == 0))
}
