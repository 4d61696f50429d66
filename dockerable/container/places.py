"""The paths that programs of the container share, and what to do where one cannot be written.

cmd.sh, uwsgi.ini, supervisor-app.conf and nginx's files name the same paths.
"""

import os
from pathlib import Path

APP = Path("/app")
# Elsewhere this is a project on its developer's machine.
IN_CONTAINER = Path(__file__).is_relative_to(APP)
SECRETS = Path("/run/secrets")

# The checked values of all variables, for every program that starts later (environment.py).
ENVIRONMENT = Path("/run/environment")
# "STATUS REASON": why the container cannot go on, for PID 1's last line.
FAILURE = Path("/run/failure")
# There while uWSGI accepts requests.
READY = Path("/run/ready")
# One FIFO for each tag of the log.
LOG = Path("/run/log")
# The copy of mounted modules that workers import.
SNAPSHOT = Path("/run/snapshot")
# What each worker is doing.
WORKERS = Path("/run/workers")
NGINX_CONFIGURATION = Path("/run/nginx/nginx.conf")
NGINX_PID = Path("/run/nginx.pid")
UWSGI_FIFO = Path("/run/uwsgi.fifo")
UWSGI_STATISTICS = Path("/run/uwsgi-stats.sock")

# The certificate that nginx serves; certbot's folder; what the certificate program found.
TLS = Path("/run/tls")
LETSENCRYPT = Path("/etc/letsencrypt")
# certbot's logs and locks; where it puts its answers to the authority, by the name that stored lineages have for it.
CERTBOT = Path("/run/letsencrypt")
CERTBOT_LOG = CERTBOT / "log/letsencrypt.log"
WEBROOT = Path("/var/www/html")
CERTIFICATE_STATUS = Path("/run/certificate.json")

ROOM_IN_RUN = "(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)"


def who() -> str:
    """This process's user, for messages."""
    return f"uid {os.getuid()} (gid {os.getgid()})"


def group_may_write(folder: Path | str, gid: int) -> str:
    """The command that makes all of a folder writable for a group; root's."""
    return f"chgrp -R {gid} {folder} && chmod -R g+rwX {folder}"


def not_writable(place: Path) -> str:
    """That this user may not write or make a file or folder, and the remedy; one line.

    The remedy gives the group access, since the container's uid may change while its gid is always 0.
    """
    there = next(path for path in (place, *place.parents) if path.exists())
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{place} is on a read-only file system: mount a volume there (volumes: ['data:{place}'])"
    if IN_CONTAINER:
        mount = next((path for path in (there, *there.parents[:-1]) if path.is_mount()), there)
        command = f"docker run --rm -u 0 -v VOLUME:{mount} IMAGE sh -c '{group_may_write(mount, 0)}'"
        return f"{place} cannot be written by uid {os.getuid()} (remedy, on the host: {command})"
    gid = os.getgid()
    command = group_may_write(place, gid) if there == place else f"install -d -m 2770 -g {gid} {place}"
    return f"{place} cannot be written by {who()} (remedy: sudo sh -c '{command}')"
