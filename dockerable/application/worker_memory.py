"""A bound on a worker's memory that the application exceeds before its first request is raised.

uWSGI would replace such a worker after each request. The child that loads the project finds out; the parent, which
becomes uWSGI, sets the variable.
"""

import mmap
import os
from pathlib import Path

from dockerable.application.log import log

MEGABYTE = 1024 * 1024
# Memory that the child shares with its parent: the higher bound in MB; 0 where UWSGI_RELOAD_ON_RSS will do.
HIGHER_BOUND = mmap.mmap(-1, 4)


def check_bound() -> None:
    """In the child, with the application loaded: raise a bound that is less than what this process takes, and warn."""
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
    """In the parent: let uWSGI have the raised bound, if it was raised."""
    if bound := int.from_bytes(HIGHER_BOUND[:]):
        os.environ["UWSGI_RELOAD_ON_RSS"] = str(bound)
