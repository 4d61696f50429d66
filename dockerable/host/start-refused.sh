#!/bin/sh
# Starts our containers that the engine did not start because their logging driver reached no syslog: the engine never
# tries again. Installed by install-syslog.sh; runs every minute, and under systemd also whenever rsyslog starts.
#
# Usage: start-refused.sh
# Starts: containers with the label dockerable.environment, a restart policy and this error; none made by `compose run`
# Exits: 0, or 70 when one was refused again
set -eu

# cron's PATH lacks /usr/local
PATH=$PATH:/usr/local/bin
NAME='{{.Name}}'
ERROR='{{.State.Error}}'
WANTED='{{if ne .HostConfig.RestartPolicy.Name "no"}}{{index .Config.Labels "com.docker.compose.oneoff"}}{{else}}no{{end}}'

log() { echo "start-refused.sh: $*" >&2; }

# With a bound, or these scripts would pile up, one each minute, while the engine hangs.
ask() { timeout 30 docker "$@"; }

main() {
    status=0
    for id in $(ask ps -aq --filter label=dockerable.environment --filter status=created --filter status=exited); do
        # A container that has been removed meanwhile is skipped.
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
