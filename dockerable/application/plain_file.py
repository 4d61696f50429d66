"""Tells which files the kernel may send: those whose read() gives what their descriptor refers to, byte for byte.

uWSGI sends whatever has a descriptor by sendfile, from the first byte on. So a compressed file, an object that decrypts
while it is read, or a file that was read in part would reach the client as other bytes, and a pipe as none.
"""

import io
import os
import stat
from typing import Any

from django.core.files.utils import FileProxyMixin


def is_plain(file: Any) -> bool:
    """Whether `file`, opened for reading, is a regular file that has a content and of which nothing was read yet."""
    try:
        # Django's File hands read() on to the file that it holds, unless a subclass replaces read().
        if getattr(type(file), "read", None) is FileProxyMixin.read and "read" not in vars(file):
            file = file.file
        if type(file) is io.TextIOWrapper:
            file = file.buffer
        # No subclass, since it may replace read().
        raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
        if type(raw) is not io.FileIO or "read" in vars(file):
            return False
        status = os.fstat(raw.fileno())
        # Files in /proc claim to be empty.
        return stat.S_ISREG(status.st_mode) and status.st_size > 0 and file.tell() == 0
    except (OSError, ValueError):
        # Closed, or gone. The attempt to read it is logged.
        return False
