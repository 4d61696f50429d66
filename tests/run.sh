#!/bin/sh
# run.sh: installs and builds what the tests need, lints, tests, and removes what it started.
#
# Usage: tests/run.sh [--install-engine] [full] [PYTEST ARGUMENT...]
#        tests/run.sh unit [PYTEST ARGUMENT...]
#        tests/run.sh [--install-engine] soak [SECONDS]
#        tests/run.sh help
#   full   the slow tests as well
#   unit   only what needs neither an engine nor an image
#   soak   instead of the tests: load, reloads and kills for ten minutes or SECONDS
# Reads: TMPDIR, BASE_IMAGE; everything dockerable/ctl build reads
# Writes: tests/.venv, tests/.cache, the images dockerable:test and (without a registry) dockerable-base:trixie
# Exits: pytest's status, or the soak test's; 69 without a Docker Engine or Python; 70 when something cannot be installed or built
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(dirname "$HERE")
VENV=$HERE/.venv

log() { echo "run.sh: $*" >&2; }
die() { status=$1; shift; log "error: $*"; exit "$status"; }

help() { sed -n '2,/^set /s/^# //p' "$0"; }

# Runs a command. Logs what is done and how long it took, and on failure the end of the command's output.
step() {
    what=$1
    shift
    log "$what"
    began=$(date +%s)
    "$@" >"$HERE/.cache/step.log" 2>&1 || {
        tail -n 20 "$HERE/.cache/step.log" >&2
        die 70 "$what failed (above: its last lines)"
    }
    log "$what: done in $(($(date +%s) - began)) s"
}

find_python() {
    for python in python3.13 python3.12 python3.11 python3; do
        if "$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then
            return
        fi
    done
    die 69 "no Python from 3.11 on is here (remedy, on Debian or Ubuntu: apt-get install python3-venv)"
}

fill_venv() {
    "$python" -m venv "$VENV" &&
        "$VENV/bin/pip" install -q --disable-pip-version-check --require-hashes -r "$HERE/requirements.txt"
}

make_venv() {
    stamp=$VENV/requirements.txt
    if cmp -s "$HERE/requirements.txt" "$stamp"; then return; fi
    find_python
    rm -rf "$VENV"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        [ "$(id -u)" = 0 ] || die 69 "$python has no venv module (remedy: sudo apt-get install python3-venv)"
        step "installing python3-venv" sh -c 'apt-get -q update && apt-get -q -y install python3-venv'
    fi
    step "making the virtual environment tests/.venv" fill_venv
    cp "$HERE/requirements.txt" "$stamp"
}

need_engine() {
    if [ -n "$install_engine" ]; then "$ROOT/dockerable/host/install-engine.sh"; fi
    docker version >/dev/null 2>&1 ||
        die 69 "no Docker Engine answers (remedy: start it, or on Debian or Ubuntu $0 --install-engine)"
}

# $1: test processes for each processor; $2: the marker expression for pytest's -m; the rest: arguments of pytest.
run_tests() {
    processes=$(($1 * $(getconf _NPROCESSORS_ONLN)))
    selection=$2
    shift 2
    # More would take much memory and gain nothing.
    if [ "$processes" -gt 8 ]; then processes=8; fi
    cd "$ROOT"
    # A module, which may share a container, stays together; the longest come first (tests/support/order.py).
    exec "$VENV/bin/python" -m pytest -n "$processes" --dist loadfile --no-loadscope-reorder -m "$selection" "$@"
}

main() {
    case ${1:-} in
        help | --help)
            help
            return
            ;;
        unit)
            shift
            mkdir -p "$HERE/.cache"
            make_venv
            run_tests 1 'not slow' "$HERE/unit" "$@"
            ;;
    esac
    install_engine=''
    if [ "${1:-}" = --install-engine ]; then install_engine=yes; shift; fi
    selection='not slow'
    if [ "${1:-}" = full ]; then selection=''; shift; fi
    need_engine
    mkdir -p "$HERE/.cache"
    make_venv
    IMAGE=dockerable:test "$ROOT/dockerable/ctl" build
    if [ "${1:-}" = soak ]; then
        shift
        cd "$ROOT"
        exec "$VENV/bin/python" -m tests.soak "$@"
    fi
    # Most of them wait most of the time.
    run_tests 2 "$selection" "$@"
}

main "$@"
