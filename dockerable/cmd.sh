#!/bin/sh
# cmd.sh: the container's start.
#
# Usage: cmd.sh [web|nginx|application|certificate]
#   web          the container's command: checks everything, renders nginx's configuration, becomes PID 1
#   nginx        supervisord's program: clears what a killed nginx left, becomes nginx
#   application  supervisord's program: clears what a killed uWSGI left, becomes uWSGI (bin/application)
#   certificate  supervisord's program: becomes bin/certificate
# Reads: the variables in dockerable/README.md
# Writes: /run/nginx/*.conf, /run/tls, /run/webroot, $DATA_DIR/media, $DATA_DIR/tmp (emptied)
# Exits: 64, 65, 66, 73 or 78 when the start is refused; later bin/init's status
set -eu
umask 0007
# One stream, or docker logs shows the lines of the two out of order.
exec 2>&1

HERE=/app/dockerable
CONFIGURATION=/run/nginx

log() { echo "cmd.sh: $*" >&2; }
die() { status=$1; shift; log "error: $*"; exit "$status"; }

check_environment() {
    assignments=$(python3 -S -m dockerable.environment) || exit $?
    eval "$assignments"
}

prepare_data() {
    # nginx would make its own 0700, closed to another uid of the group.
    mkdir -p "$DATA_DIR/media" "$DATA_DIR/tmp/nginx/body" "$DATA_DIR/tmp/nginx/uwsgi"
    # Uploads that a killed container left half-way; beside media, so that keeping one is a rename.
    find "$DATA_DIR/tmp" -type f -delete
}

# nginx starts with the stored certificate or a temporary one; the certificate program gets better ones.
prepare_certificate() {
    mkdir -p /run/webroot
    [ "$USE_SSL" = off ] || certificate install
}

# Rendered beside the configuration in use and moved only when nginx accepts it.
render_nginx_conf() {
    new=$CONFIGURATION.new
    rm -rf "$new"
    mkdir -p "$new"
    for template in "$HERE"/nginx/*.conf; do
        envsubst "$TEMPLATE_VARIABLES" <"$template" >"$new/${template##*/}"
    done
    envsubst "$TEMPLATE_VARIABLES" <"$HERE/$SITE_TEMPLATE" >"$new/site.conf"
    tested=$(/usr/sbin/nginx -e stderr -t -q -c "$new/nginx.conf" 2>&1) ||
        die 78 "nginx refuses its configuration: $(echo "$tested" | tr '\n' ' ')"
    rm -rf "$CONFIGURATION"
    mv "$new" "$CONFIGURATION"
}

tell() {
    log "$DJANGO_SETTINGS_MODULE serves $NGINX_SERVER_NAME over $SCHEME," \
        "uWSGI processes: $UWSGI_PROCESSES, threads each: $UWSGI_THREADS"
}

web() {
    # PID 1 ignores what it does not handle, and a stop must end this too.
    trap 'log stopped; exit 0' TERM INT
    check_environment
    prepare_data
    prepare_certificate
    render_nginx_conf
    tell
    # A stop that comes before init listens waits for it.
    exec env --block-signal=TERM --block-signal=INT init
}

nginx() {
    # A master killed with -9 leaves workers that hold the port, and its socket.
    pkill_orphans
    rm -f /run/health.sock
    exec /usr/sbin/nginx -e stderr -c "$CONFIGURATION/nginx.conf"
}

pkill_orphans() {
    for status in /proc/[0-9]*/status; do
        orphan=${status%/status}
        [ "$(sed -n 's/^Name:\t//p; s/^PPid:\t//p' "$status" 2>/dev/null | tr '\n' ' ')" = 'nginx 1 ' ] || continue
        kill -QUIT "${orphan#/proc/}" 2>/dev/null || true
    done
}

application() {
    rm -f /run/ready /run/uwsgi.sock
    exec application
}

main() {
    cd /app
    case ${1:-web} in
        web | nginx | application) "${1:-web}" ;;
        certificate) exec certificate ;;
        *) die 64 "'$1' is no role: web, nginx, application or certificate" ;;
    esac
}

main "$@"
