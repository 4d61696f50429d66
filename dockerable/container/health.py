"""/run/health.json: PID 1's verdict on the site, which it writes every five seconds for healthcheck and other programs.

An object of JSON with one member on each line:
verdict    "starting" until the site has answered once, "working", or "stuck"
reason     why the site is stuck; else empty
time       when this was written, in UTC
monotonic  the same as seconds of CLOCK_MONOTONIC, by which the age is judged, since the other clock may jump
requests   how many requests uWSGI has finished; null if it does not answer or is starting
accepting  how many of uWSGI's workers have loaded the application; null as above
stuck      seconds without any progress, or with a master process that does not work; else 0
"""

import contextlib
import os
import time

# A string rather than a Path: importing pathlib would make the health check, which runs every ten seconds, a third
# slower.
PLACE = "/run/health.json"
STARTING, WORKING, STUCK = "starting", "working", "stuck"
# Seconds after which the file says nothing any more: PID 1 writes it every five seconds.
FRESH = 15.0
# Bytes. All have the same length, so that one can be written over another.
LENGTH = 512


def write(
    verdict: str, reason: str = "", *, requests: int | None = None, accepting: int | None = None, stuck: float = 0.0
) -> None:
    """Replace the file; where /run is full, write over the one that is there, which needs no room. Never raises."""
    # The health check, which starts every ten seconds, does without these; PID 1 has loaded them anyway.
    import json
    from pathlib import Path

    members = {
        "verdict": verdict,
        "reason": reason,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "monotonic": round(time.monotonic(), 1),
        "requests": requests,
        "accepting": accepting,
        "stuck": round(stuck, 1),
    }
    text = json.dumps(members, indent=0).ljust(LENGTH - 1).encode() + b"\n"
    new = Path(f"{PLACE}.new")
    try:
        _put(str(new), text, os.O_CREAT | os.O_TRUNC)
        new.rename(PLACE)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        with contextlib.suppress(OSError):
            _put(PLACE, text)


def _put(place: str, text: bytes, flags: int = 0) -> None:
    descriptor = os.open(place, os.O_WRONLY | flags, 0o660)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def members() -> dict[str, str]:
    """The file's members by name, each as its text without quotes. Raises OSError, ValueError.

    One member on each line: importing json would add a fifth to the health check's CPU.
    """
    with open(PLACE, encoding="utf-8") as file:
        lines = file.read().split("\n")[1:-2]
    return {
        name.strip('"'): value.strip('"') for name, _, value in (line.rstrip(",").partition(": ") for line in lines)
    }


def problem() -> str:
    """Why the site is not healthy by PID 1's last verdict, in one line; empty if it is healthy."""
    try:
        found = members()
        age = time.monotonic() - float(found["monotonic"])
        verdict = found["verdict"]
    except (OSError, ValueError, KeyError) as reason:
        return f"{PLACE} cannot be read: {reason}"
    if not -1 < age < FRESH:
        return f"PID 1 has given no verdict for {age:.0f} s"
    if verdict == STARTING:
        return "the application is starting"
    return found["reason"] or verdict if verdict != WORKING else ""
