"""Refuses to run a program as uid 0.

Without capabilities root may not open what the site's uid owns, and what root makes is closed to the site.
cmd.sh, which is no Python program, repeats the message.
"""

import os
import sys

from dockerable.container.exit_status import USAGE

MESSAGE = "not as uid 0 (remedy: docker exec without -u, docker run with --user 10001:0)"


def refuse_root(program: str) -> int:
    """Print why `program` must not run, if this is uid 0. Returns the exit status: 64, or 0 if it may run."""
    if os.geteuid() != 0:
        return 0
    print(f"{program}: error: {MESSAGE}", file=sys.stderr, flush=True)
    return USAGE
