"""The paths that programs of the container share, and what to do where one cannot be written.

cmd.sh, uwsgi.ini, supervisor-app.conf and nginx's files name the same paths.
"""

import os
from pathlib import Path

APP = Path("/app")
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
HEALTH_SOCKET = Path("/run/health.sock")
NGINX_CONFIGURATION = Path("/run/nginx/nginx.conf")
NGINX_PID = Path("/run/nginx.pid")
UWSGI_FIFO = Path("/run/uwsgi.fifo")
UWSGI_STATISTICS = Path("/run/uwsgi-stats.sock")

# The certificate that nginx serves; certbot's folder; what the certificate program found.
TLS = Path("/run/tls")
LETSENCRYPT = Path("/etc/letsencrypt")
CERTIFICATE_STATUS = Path("/run/certificate.json")

ROOM_IN_RUN = "(remedy: room in /run, such as --tmpfs /run:mode=0770,size=64m)"


def who() -> str:
    """This process's user, for messages."""
    return f"uid {os.getuid()} (gid {os.getgid()})"
