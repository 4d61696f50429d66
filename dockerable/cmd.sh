#!/bin/sh
# cmd.sh: starts the container and its programs.
#
# Usage: cmd.sh [web|start|nginx|application|certificate|prepare_reload]
#   web          the container's command: becomes PID 1 (bin/init), which runs `start`
#   start        checks everything, renders nginx's configuration, becomes supervisord
#   nginx        run by supervisord: clears what a killed nginx left, becomes nginx
#   application  run by supervisord: clears what a killed uWSGI left, becomes uWSGI (bin/application)
#   certificate  run by supervisord: becomes bin/certificate
#   prepare_reload  run by bin/reload: checks what is mounted now, renders nginx's configuration
# Reads: the variables of the container in dockerable/VARIABLES.md
# Writes: /run/environment, /run/nginx/*.conf, /run/tls, /run/webroot, $DATA_DIR/media, $DATA_DIR/private, $DATA_DIR/tmp;
#         logs to /run/log
# Exits: 64, 65, 66, 73 or 78 if it refuses the start, which bin/init passes on; 64 as uid 0
set -eu
umask 0007

HERE=/app/dockerable
CONFIGURATION=/run/nginx
LOG=/run/log
# As in container/places.py.
ROOM_IN_RUN='(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)'

log() { echo "$*" >&2; }
die() { status=$1; shift; log "$*"; exit "$status"; }

# $1: --reload if the container runs already: its variables are those of the start, only mounts can have changed.
check_environment() {
    assignments=$(/usr/bin/python3 -S -m dockerable.container.check_environment "$@") || exit $?
    eval "$assignments"
}

prepare_data() {
    # Made here, since nginx would make these folders 0700, closed to a later container with another uid.
    mkdir -p "$DATA_DIR/media" "$DATA_DIR/private" "$DATA_DIR/tmp/nginx/body" "$DATA_DIR/tmp/nginx/uwsgi"
    # Incomplete uploads that a killed container left. Another container on this volume may be receiving younger ones, and
    # may remove a file at the same moment.
    find "$DATA_DIR/tmp" -ignore_readdir_race -type f -mmin +60 -delete ||
        log "warning: not everything in $DATA_DIR/tmp that is older than an hour can be removed"
    # The copy of an earlier start, if /run is no tmpfs: this start must use what is mounted now.
    rm -rf /run/snapshot
}

# nginx starts with the stored certificate or a temporary one; the certificate program orders a valid one later.
prepare_certificate() {
    mkdir -p /run/webroot || die 73 "error: /run/webroot cannot be made $ROOM_IN_RUN"
    [ "$USE_SSL" = off ] || "$HERE/bin/certificate" install >$LOG/certbot 2>&1
}

# $1: a template; $2: the file to write.
render() {
    [ -r "$1" ] || die 66 "error: $1 cannot be read by uid $(id -u): mount it readable for group 0"
    envsubst "$TEMPLATE_VARIABLES" <"$1" >"$2" || die 73 "error: $2 cannot be written $ROOM_IN_RUN"
}

# Renders into a new folder, which replaces the configuration in use only if nginx accepts it.
render_nginx_conf() {
    new=$CONFIGURATION.new
    rm -rf "$new"
    mkdir -p "$new" || die 73 "error: $new cannot be made $ROOM_IN_RUN"
    for template in "$HERE"/nginx/*.conf; do
        render "$template" "$new/${template##*/}"
    done
    render "$HERE/$SITE_TEMPLATE" "$new/site.conf"
    tested=$(/usr/sbin/nginx -e stderr -t -q -c "$new/nginx.conf" 2>&1) ||
        die 78 "error: nginx refuses its configuration: $(echo "$tested" | sed 's/^.*\[emerg\] [0-9#: ]*//; /test failed$/d' | tr '\n' ' ')"
    rm -rf "$CONFIGURATION"
    mv "$new" "$CONFIGURATION"
}

tell() {
    log "$DJANGO_SETTINGS_MODULE serves $NGINX_SERVER_NAME over $SCHEME," \
        "uWSGI processes: $UWSGI_PROCESSES, threads each: $UWSGI_THREADS"
}

web() {
    command -v init >/dev/null ||
        die 64 "cmd: error: PATH=$PATH lacks $HERE/bin, which it has in the image (remedy: do not set PATH)"
    # Blocked signals stay pending, so one that arrives before init handles it neither ends init nor is lost.
    # Some engines drop the option no-new-privileges, so it is set here as well, for all that init starts.
    exec env --block-signal=TERM,INT,QUIT,HUP,USR1,USR2 setpriv --no-new-privs init
}

start() {
    trap 'exit 0' TERM INT
    check_environment
    prepare_data
    prepare_certificate
    render_nginx_conf
    tell
    exec supervise -c "$HERE/supervisor-app.conf" >$LOG/supervisor 2>&1
}

nginx() {
    exec >$LOG/nginx.error 2>&1
    # A master killed with SIGKILL leaves workers that hold the port, and the socket file.
    pkill_orphans
    rm -f /run/health.sock
    # All logs are in UTC.
    exec env TZ=UTC /usr/sbin/nginx -e stderr -c "$CONFIGURATION/nginx.conf"
}

pkill_orphans() {
    for status in /proc/[0-9]*/status; do
        orphan=${status%/status}
        [ "$(sed -n 's/^Name:\t//p; s/^PPid:\t//p' "$status" 2>/dev/null | tr '\n' ' ')" = 'nginx 1 ' ] || continue
        kill -QUIT "${orphan#/proc/}" 2>/dev/null || true
    done
}

# Until bin/application becomes uWSGI, its output comes from the project and goes to the project's log. bin/application
# then switches to uWSGI's log itself.
application() {
    rm -f /run/ready /run/uwsgi.sock
    export DOCKERABLE_LOG="$LOG/django"
    exec application >"$DOCKERABLE_LOG" 2>&1
}

certificate() {
    exec certificate >$LOG/certbot 2>&1
}

# If one of these steps fails, nothing that runs has changed.
prepare_reload() {
    check_environment --reload
    # `command` runs the program of this name rather than the function.
    command application --check
    render_nginx_conf
}

# The message of container/refuse_root.py.
refuse_root() {
    [ "$(id -u)" != 0 ] || die 64 "error: not as uid 0 (remedy: docker exec without -u, docker run with --user 10001:0)"
}

main() {
    cd /app
    case ${1:-web} in
        # init refuses uid 0 itself.
        web) web ;;
        start | nginx | application | certificate | prepare_reload)
            refuse_root
            "$1"
            ;;
        *) die 64 "cmd: error: '$1' is no role: web, nginx, application or certificate" ;;
    esac
}

main "$@"
