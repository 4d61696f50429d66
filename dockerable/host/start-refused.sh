#!/bin/sh
# Starts our containers that the engine has refused to start because their logging driver reached no daemon: it never
# tries again. Installed by install-syslog.sh; run every minute, under systemd also whenever rsyslog starts.
#
# Usage: start-refused.sh
# Starts: what has the label dockerable.environment, a restart policy, and such an error; never a one-off of Compose's
# Exits: 0, or 70 when one was refused again
set -eu

# cron's has no /usr/local
PATH=$PATH:/usr/local/bin
NAME='{{.Name}}'
ERROR='{{.State.Error}}'
WANTED='{{if ne .HostConfig.RestartPolicy.Name "no"}}{{index .Config.Labels "com.docker.compose.oneoff"}}{{else}}no{{end}}'

log() { echo "start-refused.sh: $*" >&2; }

# An engine that hangs must not gather one of these every minute.
ask() { timeout 30 docker "$@"; }

main() {
    status=0
    for id in $(ask ps -aq --filter label=dockerable.environment --filter status=created --filter status=exited); do
        # One that is gone since is nobody's business.
        found=$(ask inspect -f "$NAME|$WANTED|$ERROR" "$id" 2>/dev/null) || continue
        name=${found%%|*}
        case ${found#*|} in
            no\|* | True\|*) ;;
            *'initialize logging driver'*)
                if said=$(ask start "$id" 2>&1); then
                    log "started ${name#/}, which was refused for want of its log"
                else
                    log "error: ${name#/} is still refused: $said"
                    status=70
                fi
                ;;
        esac
    done
    exit "$status"
}

main
