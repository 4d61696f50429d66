"""How long a request may wait for a worker, and nginx for its answer: uWSGI and nginx must agree. All in seconds."""

# A worker that harakiri kills needs up to this long to be replaced.
REPLACEMENT = 10


def of_a_request(harakiri: int) -> int:
    """How long a request may wait for a worker: as long as it may take then, and until a worker is replaced."""
    return max(harakiri, REPLACEMENT)


def of_nginx(harakiri: int) -> int:
    """How long nginx waits: longer than a request may wait and then take, so that uWSGI ends it before."""
    return of_a_request(harakiri) + harakiri + REPLACEMENT
