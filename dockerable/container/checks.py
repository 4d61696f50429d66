"""The start's checks beyond single variables: variables that depend on each other, mounts, files, the machine.

Each check adds errors and warnings to a report, and changes nothing else.
"""

import os
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dockerable.container import kinds, limits
from dockerable.container.exit_status import BAD_DATA, CANNOT_CREATE, CONFIG, NO_INPUT, SEVERITY, USAGE
from dockerable.container.kinds import Invalid, is_address, shown
from dockerable.container.places import (
    APP,
    DESCRIPTORS,
    LETSENCRYPT,
    group_may_write,
    mount_of,
    not_writable,
    on_volume,
)
from dockerable.container.report import Report
from dockerable.container.variables import FILES, LEAST_WATCHDOG_MARGIN

SETTINGS_PATIENCE = 10.0  # seconds that importing the project's settings may take (check_settings)
# The folders in DATA_DIR that a start makes.
DATA_FOLDERS = ("media", "private", "tmp", "tmp/nginx", "tmp/nginx/body", "tmp/nginx/uwsgi")
# supervisor-app.conf's minfds: supervisord does not start with fewer, and the message of its own has no remedy.
LEAST_DESCRIPTORS = 128
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def check_watchdog(report: Report) -> None:
    """WATCHDOG_TIMEOUT must be longer than harakiri, which replaces a hanging worker by itself."""
    harakiri, timeout = report.values.get("UWSGI_HARAKIRI", ""), report.values.get("WATCHDOG_TIMEOUT", "")
    if harakiri and timeout and 0 < int(timeout) < int(harakiri) + LEAST_WATCHDOG_MARGIN:
        report.error(
            USAGE,
            f"WATCHDOG_TIMEOUT={timeout} must exceed UWSGI_HARAKIRI={harakiri} by {LEAST_WATCHDOG_MARGIN} seconds "
            "at least (0: off), or it would end the container for requests that are merely slow",
        )


def check_descriptors(report: Report) -> None:
    """The container's limit of open files must leave room for the programs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < LEAST_DESCRIPTORS:
        report.error(CONFIG, f"nofile={hard} open files are too few, {LEAST_DESCRIPTORS} are needed {DESCRIPTORS}")


def fit_machine(environ: Mapping[str, str], report: Report) -> None:
    """Lower UWSGI_LISTEN to what the kernel allows, and warn if the workers may exceed the memory limit."""
    values, somaxconn = report.values, int(SOMAXCONN.read_text())
    if int(values["UWSGI_LISTEN"]) > somaxconn:
        if environ.get("UWSGI_LISTEN"):
            report.warnings.append(
                f"UWSGI_LISTEN={values['UWSGI_LISTEN']} is more than net.core.somaxconn allows: using {somaxconn}"
            )
        values["UWSGI_LISTEN"] = str(somaxconn)
    processes, each = int(values["UWSGI_PROCESSES"]), int(values["UWSGI_RELOAD_ON_RSS"])
    chosen = environ.get("UWSGI_PROCESSES") or environ.get("UWSGI_RELOAD_ON_RSS")
    if chosen and not limits.fits(processes, each * limits.MIB):
        report.warnings.append(
            f"UWSGI_PROCESSES={processes} of up to UWSGI_RELOAD_ON_RSS={each} MB each may need more than the memory "
            f"limit of {(limits.memory() or 0) // limits.MIB} MB: the kernel would kill what a worker is doing"
        )


def check_settings_module(report: Report, app: Path = APP) -> None:
    """The settings module's file must exist, be readable and compile; it is not imported."""
    name = report.values.get("DJANGO_SETTINGS_MODULE", "")
    if not name:
        return
    place = app.joinpath(*name.split("."))
    if not (app / name.split(".")[0]).exists():
        return  # In an installed package: the application's start will find it or refuse.
    if place.parent.exists() and not os.access(place.parent, os.X_OK):
        report.error(NO_INPUT, f"{place.parent} cannot be entered by uid {os.getuid()} {readable(place)}")
        return
    if place.with_suffix(".py").exists():
        file = place.with_suffix(".py")
    elif (place / "__init__.py").exists():
        file = place / "__init__.py"
    elif not place.parent.exists():
        report.error(
            NO_INPUT,
            f"{place.parent} does not exist: DJANGO_SETTINGS_MODULE={name} needs its folder mounted "
            f"(in the compose file beside settings.py: volumes: ['.:{place.parent}:ro'])",
        )
        return
    else:
        report.error(NO_INPUT, f"{place}.py does not exist: DJANGO_SETTINGS_MODULE={name} names it")
        return
    try:
        compile(file.read_bytes(), str(file), "exec")
    except OSError as reason:
        report.error(NO_INPUT, f"{file} cannot be read by uid {os.getuid()}: {reason.strerror} {readable(file)}")
    except (SyntaxError, ValueError) as reason:
        line = getattr(reason, "lineno", None)
        report.error(BAD_DATA, f"{file}{f', line {line}' if line else ''}: {getattr(reason, 'msg', reason)}")


def readable(place: Path) -> str:
    """The remedy for a file that the container's group may not read."""
    return f"(remedy, on the host: sudo chgrp -R 0 FOLDER && sudo chmod -R g+rX FOLDER, its mount at {place.parent})"


def check_data(environ: Mapping[str, str], report: Report) -> None:
    """The data folder must be writable by this uid or by group 0."""
    data = environ.get("DATA_DIR", "/data")
    try:
        # nginx's configuration contains this path, so it may have no special characters.
        kinds.FILE.check(data or "nothing")
    except Invalid as reason:
        report.error(USAGE, f"DATA_DIR={shown(data)} {reason}")
        return
    if not Path(data).is_dir():
        report.error(NO_INPUT, f"{data} does not exist: mount a volume there (volumes: ['data:{data}'])")
        return
    folder = Path(os.path.normpath(data))
    closed = (
        place
        for place in (folder, *(folder / name for name in DATA_FOLDERS))
        if os.access(place, os.F_OK) and not os.access(place, os.W_OK | os.X_OK)
    )
    if problem := no_folder(folder):
        report.error(CANNOT_CREATE, problem)
    elif place := next(closed, None):
        report.error(CANNOT_CREATE, not_writable(place))


def no_folder(data: Path) -> str:
    """What is wrong with a place in the data folder that must be a folder; empty if nothing is.

    Whoever breaks into the application may leave a link: in place of media it would publish what it leads to, in place
    of tmp the uploads that are being received.
    """
    for place in (data / name for name in DATA_FOLDERS):
        remedy = f"(remedy, on the host: {on_volume(mount_of(data), f'rm {place}')}"
        if place.is_symlink():
            return f"{place} is a link to {shown(str(place.readlink()))} {remedy}; mount what is elsewhere at {place})"
        if place.exists() and not place.is_dir():
            return f"{place} is no folder {remedy})"
    return ""


def check_tls(report: Report, letsencrypt: Path = LETSENCRYPT) -> None:
    """With USE_SSL: variables that go together, files that must be readable, names that can get a certificate."""
    values = report.values
    if values.get("USE_SSL") != "on":
        return
    for one, other in (
        ("TLS_CERTIFICATE", "TLS_CERTIFICATE_KEY"),
        ("ACME_EAB_KID", "ACME_EAB_HMAC_FILE"),
        ("ACME_DNS_PLUGIN", "ACME_DNS_CREDENTIALS"),
    ):
        if bool(values.get(one)) != bool(values.get(other)):
            report.error(USAGE, f"{one} and {other} go together: set both or neither")
    for name in FILES:
        if (place := values.get(name, "")) and not os.access(place, os.R_OK):
            reason = f"cannot be read by uid {os.getuid()}" if Path(place).exists() else "does not exist"
            report.error(NO_INPUT, f"{name}={place} {reason}: mount it readable for group 0")
    if values.get("TLS_CERTIFICATE"):
        return
    for name in values.get("NGINX_SERVER_NAME", "").split():
        if name.startswith("*.") and not values.get("ACME_DNS_PLUGIN"):
            report.error(USAGE, f"NGINX_SERVER_NAME: a certificate for {name} needs DNS-01: set ACME_DNS_PLUGIN")
        elif is_address(name) and values.get("ACME_PROFILE") != "shortlived":
            report.error(USAGE, f"NGINX_SERVER_NAME: an address such as {name} needs ACME_PROFILE=shortlived")
    check_letsencrypt(report, letsencrypt)


def check_letsencrypt(report: Report, folder: Path) -> None:
    """/etc/letsencrypt and everything in it must be writable, and its cli.ini must be ASCII."""
    if not folder.is_dir():
        report.error(NO_INPUT, f"{folder} does not exist: mount it (volumes: ['./letsencrypt:{folder}'])")
        return
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        report.error(
            CANNOT_CREATE,
            f"{folder} is on a read-only file system: mount it read-write (volumes: ['./letsencrypt:{folder}'])",
        )
        return
    if locked := find_locked(folder):
        report.error(
            CANNOT_CREATE,
            f"{locked} cannot be written by uid {os.getuid()} (remedy, on the host, for the folder "
            f"mounted at {folder}: sudo sh -c '{group_may_write('letsencrypt', 0)}')",
        )
        return
    try:
        text = (folder / "cli.ini").read_bytes()
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if column := next((place for place, byte in enumerate(line, 1) if byte > 127), 0):
            report.error(
                BAD_DATA, f"{folder}/cli.ini, line {number}, column {column}: not ASCII, certbot cannot read it"
            )


def find_locked(folder: Path) -> str:
    """The first folder that certbot cannot write, or file that it cannot read; empty if there is none."""
    places = [folder]
    for name in ("archive", "live", "accounts", "renewal"):
        places.append(folder / name)
        for parent, folders, files in os.walk(folder / name):
            places += [Path(parent, inner) for inner in (*folders, *files)]
    for place in places:
        # Broken links are left to the certificate program.
        if Path(place).exists() and not os.access(place, os.R_OK | (os.W_OK | os.X_OK if place.is_dir() else 0)):
            return str(place)
    return ""


def check_settings(environ: Mapping[str, str], report: Report) -> None:
    """Add errors in the project's settings to those found already, so that the user sees all at once."""
    try:
        done = subprocess.run(
            ["application", "--check-settings"],
            env={**environ, **report.values},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SETTINGS_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return
    if done.returncode not in SEVERITY:
        return
    known = {status for status, _ in report.errors}
    for line in done.stderr.splitlines():
        problem = line.removeprefix("error: ")
        # check_data has already reported a data folder that cannot be written.
        if problem != line and not (done.returncode == CANNOT_CREATE and CANNOT_CREATE in known):
            report.error(done.returncode, problem)
