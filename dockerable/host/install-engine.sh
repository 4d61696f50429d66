#!/bin/sh
# Installs a Docker Engine and Compose on this host from Debian's or Ubuntu's own packages, and starts the engine.
#
# Usage: install-engine.sh      as root, or as a user who may use sudo; a second run changes nothing
# Reads: SUDO_USER (named in the advice about the group docker), DOCKER_HOST (a warning if it points elsewhere)
# Writes: packages; without systemd the engine's log, /var/log/docker.log
# Exits: 0 an engine answers and Compose is installed; 64 an argument; 69 not Debian or Ubuntu;
#        70 apt or the engine failed; 75 the engine runs and does not answer; 77 neither root nor sudo
set -eu

SOCKET=unix:///var/run/docker.sock
PID_FILE=/var/run/docker.pid
ENGINE_LOG=/var/log/docker.log
ENGINE_TIMEOUT=60
INSTALL_DOCS=https://docs.docker.com/engine/install/

# LC_ALL: explain_apt looks for English messages. PATH: su without a dash gives one without sbin.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

log() { echo "install-engine.sh: $*" >&2; }
die() { status=$1; shift; log "error: $*"; exit "$status"; }

# timeout: docker info never returns if the daemon accepts the connection and hangs
engine_answers() { timeout 10 docker info >/dev/null 2>&1; }
# not a zombie, and not another process that has the old pid now
engine_runs() { grep -qs '(dockerd) [^ZX]' "/proc/$(cat "$PID_FILE" 2>/dev/null || echo none)/stat"; }
engine_is_there() { command -v dockerd >/dev/null || engine_answers; }
compose_is_there() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }

# Runs a command, with its output in $work/log, and logs $1. $1: what is being done; the rest: the command.
step() {
    what=$1
    shift
    log "$what"
    started=$(date +%s)
    "$@" >>"$work/log" 2>&1 </dev/null || return
    took=$(($(date +%s) - started))
    [ "$took" -lt 2 ] || log "$what: done in $took s"
}

# Ends with an error and its likely cause. $1: exit status; $2: what failed; the rest: pairs of a pattern to look for in
# $work/log and the cause that it stands for.
explain() {
    status=$1 what=$2 cause='not recognised'
    shift 2
    while [ $# -gt 0 ]; do
        if grep -Eqi "$1" "$work/log"; then cause=$2; break; fi
        shift 2
    done
    grep -v level=info "$work/log" | tail -n 15 >&2
    die "$status" "$what (above: the end of its log); likely cause: $cause"
}

explain_apt() {
    explain 70 "$1" \
        'no space left|enough free space' 'the disk is full' \
        'could not get lock|unable to (acquire|lock)' 'another program is installing packages: wait for it, then run this again' \
        'was interrupted|unmet dep|held broken' 'an earlier installation is incomplete (remedy: dpkg --configure -a; apt-get -f install)' \
        'not valid yet|expired|NO_PUBKEY' 'signatures are refused: a wrong clock, or a release that is no longer kept' \
        'resolving|could not (connect|resolve)|unable to connect|timed out|failed to fetch' \
        'the package mirror is out of reach: check network, DNS, and a proxy in /etc/apt/apt.conf.d' \
        'no package' 'a missing source (Debian keeps it in main; Ubuntu in universe, remedy: add-apt-repository universe)'
}

explain_engine() {
    # only what this start logged: an earlier failure could have another cause
    if [ -d /run/systemd/system ]; then
        journalctl -q -u docker.service --since "@$since" --no-pager
    else
        tail -c "+$((logged + 1))" "$ENGINE_LOG"
    fi >>"$work/log" 2>&1 || true
    explain "$1" "$2" \
        'is masked' 'somebody masked the service (remedy: systemctl unmask docker.service docker.socket)' \
        'no space left' 'the disk is full' \
        'daemon\.json|configuration file' '/etc/docker/daemon.json is not valid' \
        'still running' "another dockerd runs, or $PID_FILE is left from one" \
        'must be root|not permitted|permission denied' 'an engine needs more rights here; start a container that runs one with --privileged' \
        'iptables' "a kernel without nf_tables (remedy: update-alternatives --set iptables /usr/sbin/iptables-legacy)" \
        "cgroup isn't mounted|cgroup mountpoint" 'the control groups are not mounted at /sys/fs/cgroup'
}

require_debian_or_ubuntu() {
    ids=$(sed -n 's/^ID\(_LIKE\)\{0,1\}=//p' /etc/os-release 2>/dev/null | tr -d "\"'" | tr '\n' ' ')
    case " $ids" in
        *' debian '* | *' ubuntu '*) ;;
        *) die 69 "the host is neither Debian nor Ubuntu but ${ids:-unknown }(remedy: $INSTALL_DOCS)" ;;
    esac
}

become_root() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die 77 "packages and services need root (remedy: su -c 'sh \"$0\"')"
    log "packages and services need root: going on with sudo"
    sudo true || die 77 "sudo does not let this user (remedy: sudo sh \"$0\" as one whom it lets, or su -c 'sh \"$0\"')"
    exec sudo sh "$0"
}

# Prints those of the packages $@ that this host's sources have, each followed by a colon.
list_offers() {
    apt-cache policy "$@" 2>/dev/null | awk '/^[a-z]/ { name = $1 } /Candidate: [^(]/ { printf " %s", name }'
}

offers() { case "$offers " in *" $1: "*) ;; *) return 1 ;; esac; }

install_packages() {
    # a failure may only concern a third-party source, so go on
    step "reading the package lists" apt-get -q update || true
    offers=$(list_offers ca-certificates docker.io docker-cli docker-buildx docker-compose docker-compose-v2 apparmor)
    set -- ca-certificates
    engine_is_there || set -- "$@" docker.io
    # in some releases docker.io contains the client; without buildx newer clients use the deprecated builder
    if ! command -v docker >/dev/null; then
        for name in docker-cli docker-buildx; do ! offers $name || set -- "$@" $name; done
    fi
    if ! compose_is_there; then
        if offers docker-compose-v2; then set -- "$@" docker-compose-v2; else set -- "$@" docker-compose; fi
    fi
    # if AppArmor is enabled in the kernel, the engine cannot start containers without AppArmor's parser
    ! grep -qs Y /sys/module/apparmor/parameters/enabled || set -- "$@" apparmor
    for name in "$@"; do
        offers "$name" || explain_apt "this host's package sources have no package $name"
    done
    step "installing $*" apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" ||
        explain_apt "apt-get install failed"
}

start_engine() {
    : >"$work/log"
    since=$(date +%s)
    logged=$(cat "$ENGINE_LOG" 2>/dev/null | wc -c)
    if [ -d /run/systemd/system ]; then
        step "starting docker.service" systemctl enable --now docker.service ||
            explain_engine 70 "docker.service does not start"
    elif ! engine_runs || { ! step "waiting for the dockerd that runs" wait_for_engine && ! engine_runs; }; then
        # dockerd would not start if another process has the pid in a stale file
        rm -f "$PID_FILE"
        # the init script raises limits, which fails within some containers
        step "starting dockerd by its init script" service docker start || {
            log "the init script failed ($(tail -n 1 "$work/log")): starting dockerd itself, which no boot will repeat"
            : >"$work/log"
            setsid dockerd </dev/null >>"$ENGINE_LOG" 2>&1 &
        }
    fi
    step "waiting for the engine" wait_for_engine && return
    ! engine_runs || explain_engine 75 "dockerd runs and has not answered for $ENGINE_TIMEOUT s"
    explain_engine 70 "dockerd has ended"
}

# Waits until the engine answers. Fails ENGINE_TIMEOUT seconds after the start, or if dockerd has not run for 5 s (it
# needs a moment to write its pid file).
wait_for_engine() {
    gone=0
    until engine_answers; do
        [ $(($(date +%s) - since)) -lt "$ENGINE_TIMEOUT" ] || return 1
        if engine_runs; then gone=0; else gone=$((gone + 1)); fi
        [ "$gone" -lt 10 ] || return 1
        sleep 0.5
    done
}

report() {
    driver=$(docker info --format '{{.Driver}}')
    compose=$(docker compose version --short 2>/dev/null || docker-compose version --short)
    log "Docker Engine $(docker version --format '{{.Server.Version}}') $1; Compose $compose; storage driver $driver"
    [ "$driver" != vfs ] ||
        log "vfs copies whole layers, slow and large; a container that runs an engine needs a volume at /var/lib/docker"
    # only advice: members of the group docker are root without a password
    user=${SUDO_USER:-$(id -un)}
    [ "$user" != root ] || user=NAME
    case " $(id -nG "$user" 2>/dev/null) " in
        *' docker '*) ;;
        *) log "users other than root need sudo, or the group docker, which is root's power: usermod -aG docker $user" ;;
    esac
}

main() {
    [ $# = 0 ] || die 64 "it takes no argument (usage: install-engine.sh)"
    [ "${DOCKER_HOST:-$SOCKET}" = "$SOCKET" ] ||
        log "DOCKER_HOST=$DOCKER_HOST: docker commands go there, not to this host's engine (remedy: unset DOCKER_HOST)"
    export DOCKER_HOST="$SOCKET"
    if engine_answers && compose_is_there; then
        report "is there already and answers"
        exit 0
    fi
    { engine_is_there && compose_is_there; } || require_debian_or_ubuntu
    become_root
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    { engine_is_there && compose_is_there; } || install_packages
    engine_answers || start_engine
    report "answers"
}

main "$@"
