"""Variables that an orchestrator sets: they mean nothing to this image and must not be taken for its own."""

import re

# Kubernetes tells every container the address of every service, so of one that is called `uwsgi` or `nginx`:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
NAME = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII | re.IGNORECASE
)
ADDRESS = re.compile("(tcp|udp|sctp)://")


def injected(name: str, value: str) -> bool:
    """Whether this variable is an orchestrator's address of a service."""
    return bool(NAME.fullmatch(name) or ADDRESS.match(value))
