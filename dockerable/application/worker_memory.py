"""Raises UWSGI_RELOAD_ON_RSS if the application exceeds it before its first request.

uWSGI would otherwise replace the worker after each request. The child that loads the project measures the memory; the
parent, which becomes uWSGI, sets the variable.
"""

import mmap
import os
from pathlib import Path

from dockerable.application.log import log

MEGABYTE = 1024 * 1024
# Shared memory by which the child passes the raised bound, in MB, to its parent; 0 if UWSGI_RELOAD_ON_RSS is enough.
HIGHER_BOUND = mmap.mmap(-1, 4)


def check_bound() -> None:
    """Called in the child after loading the application: if it exceeds the bound, raise the bound and log a warning."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") // MEGABYTE
    bound, least = int(os.environ["UWSGI_RELOAD_ON_RSS"]), resident + resident // 4
    if 0 < bound < least:
        log(
            f"warning: UWSGI_RELOAD_ON_RSS={bound} is too little for an application that takes {resident} MB "
            f"before its first request: using {least} (remedy: fewer UWSGI_PROCESSES, or a higher memory limit)"
        )
        HIGHER_BOUND[:] = least.to_bytes(4)


def use_higher_bound() -> None:
    """Called in the parent: set the variable to the bound if the child has raised it."""
    if bound := int.from_bytes(HIGHER_BOUND[:]):
        os.environ["UWSGI_RELOAD_ON_RSS"] = str(bound)
