"""Exit statuses of the container and of every program in it, by sysexits.h; dockerable/README.md lists them."""

USAGE = 64  # a variable or an argument is wrong
BAD_DATA = 65  # bad data in a file
NO_INPUT = 66  # a file or mount is missing
UNAVAILABLE = 69  # a service does not answer
SOFTWARE = 70  # a program inside failed for good
CANNOT_CREATE = 73  # a place cannot be written
TRY_LATER = 75  # not now: the site is starting or stopping
CONFIG = 78  # the configuration is wrong
INTERRUPTED = 130  # ended by SIGINT or SIGTERM

# If there are errors of several kinds, the exit status is the first of these.
SEVERITY = (USAGE, NO_INPUT, BAD_DATA, CONFIG, CANNOT_CREATE)
