"""The paths that programs of the container share, and the remedies if one cannot be written.

cmd.sh, uwsgi.ini, supervisor-app.conf and nginx's configuration repeat some of these paths.
"""

import os
from pathlib import Path

APP = Path("/app")
# False on a developer's machine, where the project runs without the container.
IN_CONTAINER = Path(__file__).is_relative_to(APP)
SECRETS = Path("/run/secrets")

RUN = Path("/run")
# The checked values of all variables, for every program that starts later (environment.py).
ENVIRONMENT = Path("/run/environment")
# "STATUS REASON": why the container cannot go on, for PID 1's last line.
FAILURE = Path("/run/failure")
# Exists while uWSGI accepts requests.
READY = Path("/run/ready")
# One FIFO for each tag of the log.
LOG = Path("/run/log")
# Copies of the mounted modules; workers import one of them (snapshot.py).
SNAPSHOT = Path("/run/snapshot")
# The request that each worker is serving.
WORKERS = Path("/run/workers")
# Its time is that of the last warning about a proxy that is not trusted.
PROXY_WARNING = Path("/run/proxy-warning")
NGINX_CONFIGURATION = Path("/run/nginx/nginx.conf")
NGINX_PID = Path("/run/nginx.pid")
SUPERVISORD_PID = Path("/run/supervisord.pid")
UWSGI_FIFO = Path("/run/uwsgi.fifo")
UWSGI_STATISTICS = Path("/run/uwsgi-stats.sock")

# The certificate that nginx serves; certbot's configuration and certificates.
TLS = Path("/run/tls")
LETSENCRYPT = Path("/etc/letsencrypt")
# certbot's logs and locks.
CERTBOT = Path("/run/letsencrypt")
CERTBOT_LOG = CERTBOT / "log/letsencrypt.log"
# Where certbot puts its answers to the authority; stored renewal configurations name this path.
WEBROOT = Path("/var/www/html")
# The certificate program's status, for `certificate status` and ctl.
CERTIFICATE_STATUS = Path("/run/certificate.json")

ROOM_IN_RUN = "(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)"
DESCRIPTORS = "(remedy: --ulimit nofile=4096, in a compose file ulimits: {nofile: 4096})"


def who() -> str:
    """The uid and gid of this process, for messages."""
    return f"uid {os.getuid()} (gid {os.getgid()})"


def group_may_write(folder: Path | str, gid: int) -> str:
    """The command, to be run as root, that makes a folder and everything in it writable for a group."""
    return f"chgrp -R {gid} {folder} && chmod -R g+rwX {folder}"


def mount_of(place: Path) -> Path:
    """The mount that an existing place is on; the place itself if it is on the root file system."""
    return next((path for path in (place, *place.parents[:-1]) if path.is_mount()), place)


def on_volume(mount: Path, command: str) -> str:
    """The host's command that runs `command` as root on the volume mounted at `mount`."""
    return f"docker run --rm -u 0 -v VOLUME:{mount} IMAGE {command}"


def not_writable(place: Path) -> str:
    """A message, with its remedy, that this user cannot write or make `place`; one line.

    The remedy gives access to the group: the container's uid may change, its gid is always 0.
    """
    there = next(path for path in (place, *place.parents) if path.exists())
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{place} is on a read-only file system: mount a volume there (volumes: ['data:{place}'])"
    if IN_CONTAINER:
        mount = mount_of(there)
        command = on_volume(mount, f"sh -c '{group_may_write(mount, 0)}'")
        return f"{place} cannot be written by uid {os.getuid()} (remedy, on the host: {command})"
    gid = os.getgid()
    command = group_may_write(place, gid) if there == place else f"install -d -m 2770 -g {gid} {place}"
    return f"{place} cannot be written by {who()} (remedy: sudo sh -c '{command}')"
