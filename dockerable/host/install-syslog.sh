#!/bin/sh
# Configures the host's rsyslog to write our containers' log to /var/log/CONTAINER/PROGRAM.log, and logrotate to keep two
# weeks of it. Containers that could not start while rsyslog was down are started once it is back.
#
# Usage: install-syslog.sh [--dev-log | --undo]      as root; a second run changes nothing
#        --dev-log: also accept logs at /dev/log, where every user of the host may write; --undo: remove all but the logs
# Writes: /etc/rsyslog.d/10-dockerable.conf (and 11-dockerable-dev-log.conf), /etc/logrotate.d/dockerable,
#         /usr/local/sbin/dockerable-start-refused, /var/lib/dockerable/dev (the socket), and for systemd four files in
#         /etc/systemd/system, else /etc/cron.d/dockerable
# Exits: 0 done; 64 an argument; 69 rsyslog or logrotate is missing; 70 rsyslog refuses the configuration; 77 not root
set -eu

HERE=$(CDPATH='' cd "$(dirname "$0")" && pwd)
SOCKET=/var/lib/dockerable/dev/log
# Until rsyslog has restarted: the list of files written or removed so far, and copies of the files that were replaced.
UNFINISHED=/var/lib/dockerable/unfinished
BEFORE=/var/lib/dockerable/before
RULES=/etc/rsyslog.d/10-dockerable.conf
DEV_LOG_RULES=/etc/rsyslog.d/11-dockerable-dev-log.conf
UNITS=/etc/systemd/system
OUR_UNITS='dockerable-log.socket dockerable-start-refused.timer'
# su without a dash gives a PATH without sbin
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
dev_log=''

log() { echo "install-syslog.sh: $*" >&2; }
die() { status=$1; shift; log "error: $*"; exit "$status"; }

has_systemd() { [ -d /run/systemd/system ]; }

# Prints the files to install, one a line: mode, source in this folder, target.
list_files() {
    echo "0644 rsyslog.conf $RULES"
    [ -z "$dev_log" ] || echo "0644 rsyslog-dev-log.conf $DEV_LOG_RULES"
    echo "0644 logrotate.conf /etc/logrotate.d/dockerable"
    echo "0755 start-refused.sh /usr/local/sbin/dockerable-start-refused"
    if has_systemd; then
        echo "0644 systemd/dockerable-log.socket $UNITS/dockerable-log.socket"
        echo "0644 systemd/dockerable-start-refused.service $UNITS/dockerable-start-refused.service"
        echo "0644 systemd/dockerable-start-refused.timer $UNITS/dockerable-start-refused.timer"
        echo "0644 systemd/rsyslog.service.conf $UNITS/rsyslog.service.d/dockerable.conf"
    else
        echo "0644 cron.conf /etc/cron.d/dockerable"
    fi
}

require_rsyslog() {
    command -v rsyslogd >/dev/null || die 69 "there is no rsyslogd (remedy: apt-get install rsyslog logrotate)"
    command -v logrotate >/dev/null || die 69 "there is no logrotate (remedy: apt-get install logrotate)"
    grep -qs '^[^#]*rsyslog\.d' /etc/rsyslog.conf || die 70 \
        "/etc/rsyslog.conf does not read /etc/rsyslog.d (remedy: add include(file=\"/etc/rsyslog.d/*.conf\") after its modules)"
}

install_files() {
    # Only root may enter the folder: the socket in it is writable for everyone.
    [ -d "${SOCKET%/*}" ] || mkdir -p "${SOCKET%/*}"
    chmod 0700 "${SOCKET%/dev/*}"
    while read -r mode source target; do
        ! cmp -s "$HERE/$source" "$target" || continue
        mkdir -p "${target%/*}" "$BEFORE"
        # Copied only once: after an interrupted run, $target is already the file that that run wrote.
        if ! grep -qsxF "$target" "$UNFINISHED"; then
            [ ! -e "$target" ] || cp -p "$target" "$BEFORE/${target##*/}"
            echo "$target" >>"$UNFINISHED"
        fi
        install -m "$mode" "$HERE/$source" "$target"
        log "wrote $target"
    done <<LIST
$(list_files)
LIST
}

# With a configuration that it refuses, rsyslog would not start again, and all logging of the host would end.
check_rules() {
    said=$(rsyslogd -N1 2>&1) && return
    while read -r target; do
        if [ -e "$BEFORE/${target##*/}" ]; then mv "$BEFORE/${target##*/}" "$target"; else rm -f "$target"; fi
    done <"$UNFINISHED"
    remove_folders
    echo "$said" >&2
    die 70 "rsyslogd -N1 refuses the configuration (above), so the files just written are taken away again"
}

remove_folders() {
    rm -rf "$UNFINISHED" "$BEFORE"
    for folder in "${SOCKET%/*}" "${SOCKET%/dev/*}" "$UNITS/rsyslog.service.d"; do
        rmdir "$folder" 2>/dev/null || :
    done
}

# Whether the socket exists and, under systemd, rsyslog and our units are active.
is_up() {
    [ -S "$SOCKET" ] || return
    has_systemd || return 0
    for unit in rsyslog.service $OUR_UNITS; do systemctl is-active -q "$unit" || return; done
}

restart_rsyslog() {
    if has_systemd; then
        systemctl daemon-reload
        # systemd can pass a socket only to a service that is just starting.
        systemctl stop syslog.socket rsyslog.service
        for unit in $OUR_UNITS; do
            [ ! -e "$UNITS/$unit" ] || systemctl enable -q --now "$unit"
        done
        systemctl start syslog.socket rsyslog.service || die 70 "rsyslog does not start (see: systemctl status rsyslog)"
    elif [ -x /etc/init.d/rsyslog ]; then
        /etc/init.d/rsyslog restart >&2 || die 70 "rsyslog does not start (above)"
    else
        log "restart rsyslogd now: this host has neither systemd nor /etc/init.d/rsyslog to do it with"
    fi
}

install_all() {
    require_rsyslog
    # Once installed, the rules for /dev/log stay until --undo, and each run updates them.
    [ ! -e "$DEV_LOG_RULES" ] || dev_log=yes
    install_files
    if [ ! -e "$UNFINISHED" ] && is_up; then log "all is installed already"; return; fi
    [ ! -e "$UNFINISHED" ] || check_rules
    restart_rsyslog
    rm -rf "$UNFINISHED" "$BEFORE"
    log "containers that log to unixgram://$SOCKET get /var/log/CONTAINER/PROGRAM.log"
    [ -z "$dev_log" ] || log "so do those that log to unixgram:///dev/log (and whoever else writes such lines to it)"
}

undo() {
    dev_log=yes
    if has_systemd; then
        for unit in $OUR_UNITS; do
            [ ! -e "$UNITS/$unit" ] || systemctl disable -q --now "$unit"
        done
    fi
    while read -r _ _ target; do
        [ -e "$target" ] || continue
        mkdir -p "${UNFINISHED%/*}"
        echo "$target" >>"$UNFINISHED"
        rm "$target"
        log "removed $target"
    done <<LIST
$(list_files)
LIST
    [ ! -e "$UNFINISHED" ] || restart_rsyslog
    rm -f "$SOCKET"
    remove_folders
}

main() {
    case "$#${1:-}" in
        0) ;;
        1--dev-log) dev_log=yes ;;
        1--undo) ;;
        *) die 64 "it takes --dev-log, --undo or nothing, not '$*'" ;;
    esac
    [ "$(id -u)" = 0 ] || die 77 "this needs root (remedy: sudo $0 $*)"
    if [ "${1:-}" = --undo ]; then undo; else install_all; fi
}

main "$@"
