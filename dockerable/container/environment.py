"""The container's environment: every variable it reads, its default, what it may hold.

`python3 -m dockerable.environment` prints the checked values as shell assignments, for cmd.sh to
evaluate. What is wrong is listed on stderr, all of it, and the exit status is the first kind found
among 64 (variables), 66 (a file or mount is missing), 65 (bad data in a file), 78 (configuration)
and 73 (a place cannot be written).

Standard library only: it runs before anything else, in the system's own Python.
"""

import difflib
import ipaddress
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockerable.container import limits, watchdog

APP = Path("/app")
USAGE, NO_INPUT, BAD_DATA, CONFIG, CANNOT_CREATE = 64, 66, 65, 78, 73
SEVERITY = (USAGE, NO_INPUT, BAD_DATA, CONFIG, CANNOT_CREATE)

SETTINGS_PATIENCE = 10.0  # seconds for a project's settings to be imported beside other errors
SHOWN = 80  # characters of a wrong value in a message
# Characters of a variable: with what is derived from it, far below what the kernel lets a program be started with.
LONGEST = 16384

SWITCH = {"on": True, "true": True, "yes": True, "1": True}
SWITCH |= {"off": False, "false": False, "no": False, "0": False}


class Invalid(Exception):
    """What is wrong with a value, as the end of the sentence that its name begins."""


@dataclass(frozen=True)
class Variable:
    """One variable: what checks it, and its default (None: it must be set)."""

    name: str
    check: Callable[[str], str]
    default: str | Callable[[], str] | None = ""
    example: str = ""


@dataclass
class Report:
    """The checked values, and what was found wrong on the way to them."""

    values: dict[str, str] = field(default_factory=dict)
    errors: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, status: int, message: str) -> None:
        """Add what is wrong, with the exit status of its kind."""
        self.errors.append((status, message))

    @property
    def status(self) -> int:
        """The exit status: 0, or the first kind of error in the order of SEVERITY."""
        found = {status for status, _ in self.errors}
        return next((status for status in SEVERITY if status in found), max(found, default=0))


def integer(low: int, high: int, unit: str = "") -> Callable[[str], str]:
    """A check for a whole number in decimal digits from `low` to `high`."""
    wanted = f"must be a whole number from {low} to {high}{' ' + unit if unit else ''}"

    def check(value: str) -> str:
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}", value) or not low <= int(value) <= high:
            raise Invalid(wanted)
        return value

    return check


def switch(value: str) -> str:
    """on, true, yes, 1 or off, false, no, 0 in any case; gives `on` or `off`."""
    if value.lower() not in SWITCH:
        raise Invalid(f"must be one of {', '.join(SWITCH)}")
    return "on" if SWITCH[value.lower()] else "off"


def one_of(*words: str) -> Callable[[str], str]:
    """A check for one of these words, in any case; gives it in lower case."""

    def check(value: str) -> str:
        if value.lower() not in words:
            raise Invalid(f"must be one of {', '.join(words)}")
        return value.lower()

    return check


def size(value: str) -> str:
    """A size as nginx writes it: bytes, or with k, m or g."""
    if not re.fullmatch(r"(0|[1-9][0-9]{0,5})[kKmMgG]?", value):
        raise Invalid("must be a size such as 512k, 20m or 1g (0: no limit)")
    return value


def or_nothing(check: Callable[[str], str]) -> Callable[[str], str]:
    """The check, which an empty value passes."""
    return lambda value: check(value) if value else ""


def path(value: str) -> str:
    """A path of the site that can stand in a request line, or nothing."""
    if value and not re.fullmatch(r"/[A-Za-z0-9._~!*+,:@&=?%/()-]{0,1000}", value):
        raise Invalid("must be a path of your site that starts with / (example: /health/)")
    return value


def networks(value: str) -> str:
    """Addresses or networks in CIDR notation, separated by spaces; the whole Internet is refused."""
    checked = []
    for part in value.split(" "):
        if not part:
            continue
        try:
            network = ipaddress.ip_network(without_zone(part), strict=False)
        except ValueError:
            raise Invalid(f"{shown(part)} is not an address or network (example: 10.0.0.0/8)") from None
        # 10.0.0.0/8 and fc00::/7 are the widest that are anybody's own.
        if network.prefixlen < (8 if network.version == 4 else 7):
            whom = "too many" if network.prefixlen else "everyone"
            raise Invalid(f"{shown(part)} would trust {whom}; name your load balancer's own network")
        if ipaddress.ip_interface(part).ip != network.network_address:
            raise Invalid(f"{shown(part)} has host bits set; did you mean {network}?")
        checked.append(str(network))
    return " ".join(checked)


def without_zone(address: str) -> str:
    """The address, unless it has a zone (fe80::1%eth0): Python lets any character pass in it. Raises ValueError."""
    if "%" in address:
        raise ValueError(address)
    return address


def shown(value: str) -> str:
    """A wrong value as messages quote it: printable, and no longer than a line."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}...")


def module(value: str) -> str:
    """A dotted Python module name."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", value, re.ASCII):
        raise Invalid("must be a Python module (example: project.settings.example.settings)")
    return value


def server_names(value: str) -> str:
    """Host names separated by spaces, in lower case, each once."""
    names = [server_name(name) for name in value.split(" ") if name]
    if not names:
        raise Invalid("is empty (example: www.example.com)")
    return " ".join(dict.fromkeys(names))


def server_name(name: str) -> str:
    """One host name: DNS labels, a leading `*.` allowed, or an address ([::1] in brackets)."""
    if not name.isascii():
        raise Invalid(f"{shown(name)} is not ASCII: write {punycode(name)}")
    name = name.lower()
    if name.startswith("[") and name.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(without_zone(name[1:-1]))}]"
        except ValueError:
            raise Invalid(f"{shown(name)} is not an IPv6 address") from None
    if re.fullmatch(r"[a-z]+://.*", name) or re.search(r":\d*$", name):
        raise Invalid(f"{shown(name)} must be a name alone, without scheme and port")
    if len(name) > 253:
        raise Invalid(f"{shown(name)} has more than 253 characters")
    labels = name.removeprefix("*.").split(".")
    for label in labels:
        if not label:
            raise Invalid(f"{shown(name)} has an empty label (a dot too many)")
        if len(label) > 63:
            raise Invalid(f"{shown(name)} has a label of more than 63 characters")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", label):
            raise Invalid(f"{shown(name)} may hold letters, digits and inner hyphens, names separated by spaces")
    if labels[-1].isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise Invalid(f"{shown(name)} is neither a host name nor an IPv4 address") from None
    return name


def punycode(name: str) -> str:
    """The ASCII form of a Unicode host name. Raises Invalid where it has none.

    By hand, since the standard library's IDNA is that of 2003, which makes of some names another domain.
    """
    labels = unicodedata.normalize("NFKC", name).lower().split(".")
    try:
        words = [label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels]
        name.encode()
        return server_name(".".join(words))
    except (UnicodeError, Invalid):
        raise Invalid(f"{shown(name)} is not a host name") from None


def mail_address(value: str) -> str:
    """A mail address, or nothing."""
    if value and not re.fullmatch(r"\w[\w.+%=~-]*@([a-z0-9-]+\.)+[a-z0-9-]+", value, re.ASCII | re.IGNORECASE):
        raise Invalid("must be a mail address (example: admin@example.com)")
    return value


def https_url(value: str) -> str:
    """An https URL, or nothing."""
    host = r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?"
    if value and not re.fullmatch(rf"https://{host}(/[\w.~/?&=%+@:-]*)?", value, re.ASCII | re.IGNORECASE):
        raise Invalid("must be an https URL of an ACME directory (example: https://acme.example.com/directory)")
    return value


def word(value: str) -> str:
    """Letters, digits, hyphens and underscores, or nothing."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        raise Invalid("must consist of letters, digits, hyphens and underscores")
    return value


def file(value: str) -> str:
    """An absolute path in the container, or nothing; whether it is there is seen later."""
    if value and not re.fullmatch(r"/[\w./@%+=:-]+", value):
        raise Invalid("must be an absolute path in the container")
    return value


def settings_default() -> str:
    """The module that manage.py names."""
    found = re.search(r"""DJANGO_SETTINGS_MODULE["'], *["']([\w.]+)""", (APP / "manage.py").read_text())
    return found[1] if found else ""


VARIABLES = (
    Variable("DJANGO_SETTINGS_MODULE", module, settings_default),
    Variable("NGINX_SERVER_NAME", server_names, None, "www.example.com"),
    Variable("USE_SSL", switch, "off"),
    Variable("EMAIL_ADDRESS", mail_address, ""),
    Variable("HTTPS_PORT", integer(1, 65535), "443"),
    # Mozilla's guideline 6.0: two years.
    Variable("HSTS_SECONDS", integer(0, 2**31 - 1, "seconds"), "63072000"),
    Variable("NGINX_HTTP3", switch, "off"),
    Variable("ACME_SERVER", https_url, ""),
    Variable("ACME_STAGING", switch, "off"),
    Variable("ACME_PROFILE", word, ""),
    Variable("ACME_CA_BUNDLE", file, ""),
    Variable("ACME_EAB_KID", word, ""),
    Variable("ACME_EAB_HMAC_FILE", file, ""),
    Variable("ACME_DNS_PLUGIN", word, ""),
    Variable("ACME_DNS_CREDENTIALS", file, ""),
    Variable("ACME_DNS_PROPAGATION_SECONDS", integer(0, 3600, "seconds"), "30"),
    Variable("TLS_CERTIFICATE", file, ""),
    Variable("TLS_CERTIFICATE_KEY", file, ""),
    Variable("TRUSTED_PROXIES", networks, ""),
    Variable("RUN_MIGRATIONS", switch, "on"),
    Variable("HEALTH_PATH", path, ""),
    Variable("LOG_FORMAT", one_of("text", "json"), "text"),
    Variable("LOG_LEVEL", one_of("debug", "info", "warning", "error", "critical"), "info"),
    Variable("SLOW_REQUEST_SECONDS", integer(0, 3600, "seconds"), "5"),
    Variable("UWSGI_PROCESSES", integer(1, 512), lambda: str(limits.default_processes())),
    # One: pages that compute share a worker's interpreter, and a killed worker takes what its threads do with it.
    Variable("UWSGI_THREADS", integer(1, 128), "1"),
    Variable("UWSGI_HARAKIRI", integer(1, 3600, "seconds"), str(limits.HARAKIRI)),
    # Depends on another variable: bound_memory() fills it in.
    Variable("UWSGI_RELOAD_ON_RSS", or_nothing(integer(0, 1048576, "megabytes (0: no bound)")), lambda: ""),
    # Depends on another variable: watchdog.timeout().
    Variable("WATCHDOG_TIMEOUT", or_nothing(integer(0, 86400, "seconds (0: off)")), lambda: ""),
    Variable("UWSGI_LISTEN", integer(1, 65535), "1024"),
    Variable("NGINX_WORKER_PROCESSES", integer(1, 64), lambda: str(min(limits.cpus(), 64))),
    Variable("NGINX_WORKER_CONNECTIONS", integer(64, 65535), "2048"),
    Variable("NGINX_CLIENT_MAX_BODY_SIZE", size, "20m"),
    Variable("NGINX_CLIENT_HEADER_TIMEOUT", integer(1, 3600, "seconds"), "10"),
    Variable("NGINX_CLIENT_BODY_TIMEOUT", integer(1, 3600, "seconds"), "30"),
    Variable("NGINX_SEND_TIMEOUT", integer(1, 3600, "seconds"), "30"),
    Variable("NGINX_KEEPALIVE_TIMEOUT", integer(0, 3600, "seconds"), "65"),
    Variable("NGINX_LIMIT_CONNECTIONS", integer(0, 65535), "0"),
    Variable("NGINX_LIMIT_REQUESTS", integer(0, 10000, "a second"), "0"),
    Variable("NGINX_LIMIT_REQUESTS_BURST", integer(1, 100000), "20"),
)
FILES = ("TLS_CERTIFICATE", "TLS_CERTIFICATE_KEY", "ACME_CA_BUNDLE", "ACME_EAB_HMAC_FILE", "ACME_DNS_CREDENTIALS")
NAMES = frozenset(variable.name for variable in VARIABLES)


def check_variables(environ: Mapping[str, str], report: Report) -> None:
    """Check every variable, fill in defaults, and report on all of them."""
    for variable in VARIABLES:
        value = environ.get(variable.name)
        if value is None or (value == "" and variable.default is not None):
            if variable.default is None:
                report.error(USAGE, f"{variable.name} is not set (example: {variable.example})")
                continue
            value = variable.default() if callable(variable.default) else variable.default
        try:
            if len(value) > LONGEST:
                raise Invalid(f"has {len(value)} characters, more than {LONGEST}")
            report.values[variable.name] = variable.check(value)
        except Invalid as reason:
            link = f"={shown(value)}" if str(reason).startswith("must ") else ":" if str(reason)[0] in "'\"" else ""
            report.error(USAGE, f"{variable.name}{link} {reason}")


def check_watchdog(report: Report) -> None:
    """WATCHDOG_TIMEOUT must leave harakiri the time to mend what it can."""
    harakiri, given = report.values.get("UWSGI_HARAKIRI", ""), report.values.get("WATCHDOG_TIMEOUT", "")
    if harakiri and 0 < int(given or 0) < int(harakiri) + watchdog.LEAST_MARGIN:
        report.error(
            USAGE,
            f"WATCHDOG_TIMEOUT={given} must exceed UWSGI_HARAKIRI={harakiri} by {watchdog.LEAST_MARGIN} seconds "
            "at least (0: off), or it would end the container for requests that are merely slow",
        )


def warn_of_unknown(environ: Mapping[str, str], report: Report) -> None:
    """Warn of names that look like a variable of ours and are none."""
    for name in sorted(set(environ) - NAMES):
        nearest = difflib.get_close_matches(name, NAMES, 1, 0.8)
        if nearest:
            report.warnings.append(f"{name} is not a variable of this image: did you mean {nearest[0]}?")
        elif name.startswith("NGINX_"):
            report.warnings.append(f"{name} is not a variable of this image and has no effect")


def check_settings_module(report: Report, app: Path = APP) -> None:
    """Find the settings module's file, without importing it."""
    name = report.values.get("DJANGO_SETTINGS_MODULE", "")
    if not name:
        return
    place = app.joinpath(*name.split("."))
    if not (app / name.split(".")[0]).exists():
        return  # of an installed package: the application's own start will say
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
    """The remedy for what the container's group may not read."""
    return f"(remedy, on the host: sudo chgrp -R 0 FOLDER && sudo chmod -R g+rX FOLDER, its mount at {place.parent})"


def not_writable(place: str, data: str) -> str:
    """That this uid may not write `place` in the data folder, and the remedy."""
    return (
        f"{place} cannot be written by uid {os.getuid()} (remedy, on the host: docker run --rm -u 0 "
        f"-v VOLUME:{data} IMAGE sh -c 'chgrp -R 0 {data} && chmod -R g+rwX {data}')"
    )


def check_data(environ: Mapping[str, str], report: Report) -> None:
    """The data folder must be writable by this uid or by group 0."""
    data = environ.get("DATA_DIR", "/data")
    try:
        # It stands in nginx's configuration.
        file(data or "nothing")
    except Invalid as reason:
        report.error(USAGE, f"DATA_DIR={shown(data)} {reason}")
        return
    if not Path(data).is_dir():
        report.error(NO_INPUT, f"{data} does not exist: mount a volume there (volumes: ['data:{data}'])")
    elif os.statvfs(data).f_flag & os.ST_RDONLY:
        report.error(
            CANNOT_CREATE, f"{data} is on a read-only file system: mount a volume there (volumes: ['data:{data}'])"
        )
    else:
        places = (os.path.normpath(f"{data}/{name}") for name in ("", "media", "tmp", "tmp/nginx"))
        closed = (place for place in places if os.access(place, os.F_OK) and not os.access(place, os.W_OK | os.X_OK))
        if place := next(closed, ""):
            report.error(CANNOT_CREATE, not_writable(place, data))


def check_tls(report: Report, letsencrypt: Path = Path("/etc/letsencrypt")) -> None:
    """What HTTPS needs beside its variables: names that can be certified, files, a place for certificates."""
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


def is_address(name: str) -> bool:
    """Whether a checked server name is an IP address."""
    return name.startswith("[") or name.rpartition(".")[2].isdigit()


def check_letsencrypt(report: Report, folder: Path) -> None:
    """certbot's folder must be writable, all that is in it too, and its cli.ini ASCII."""
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
            f"mounted at {folder}: sudo sh -c 'chgrp -R 0 letsencrypt && chmod -R g+rwX letsencrypt')",
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
    """The first folder that certbot must write and cannot, or file that it must read; empty where there is none."""
    places = [folder]
    for name in ("archive", "live", "accounts", "renewal"):
        places.append(folder / name)
        for parent, folders, files in os.walk(folder / name):
            places += [Path(parent, inner) for inner in (*folders, *files)]
    for place in places:
        # A link that leads nowhere is the certificate program's concern.
        if Path(place).exists() and not os.access(place, os.R_OK | (os.W_OK | os.X_OK if place.is_dir() else 0)):
            return str(place)
    return ""


def check_settings(environ: Mapping[str, str], report: Report) -> None:
    """Once something is wrong, ask the project's settings too, so that all of it is listed."""
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
        # The data folder that cannot be written has been reported already.
        if problem != line and not (done.returncode == CANNOT_CREATE and CANNOT_CREATE in known):
            report.error(done.returncode, problem)


def derive(values: dict[str, str], report: Report) -> dict[str, str]:
    """What the templates and uWSGI need beside the variables themselves."""
    tls, port, http3 = values["USE_SSL"] == "on", values["HTTPS_PORT"], values["NGINX_HTTP3"] == "on"
    proxies = values["TRUSTED_PROXIES"].split()
    somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    if int(values["UWSGI_LISTEN"]) > somaxconn:
        if os.environ.get("UWSGI_LISTEN"):
            report.warnings.append(
                f"UWSGI_LISTEN={values['UWSGI_LISTEN']} is more than net.core.somaxconn allows: using {somaxconn}"
            )
        values["UWSGI_LISTEN"] = str(somaxconn)
    bound_memory(values, report)
    return {
        # Stands before each `listen [::]:…`, which would not start where the kernel has no IPv6.
        "IPV6": "" if Path("/proc/net/if_inet6").exists() else "# no IPv6 here: ",
        "SITE_TEMPLATE": "nginx-app-ssl.conf" if tls else "nginx-app.conf",
        "SCHEME": "https" if tls else "http",
        "HTTPS_PORT_SUFFIX": "" if port == "443" else f":{port}",
        "HTTPS_PORT_UNLESS_443": "" if port == "443" else port,
        "STRICT_TRANSPORT_SECURITY": f"max-age={values['HSTS_SECONDS']}",
        "REJECT_UNKNOWN_NAME": "off" if any(map(is_address, values["NGINX_SERVER_NAME"].split())) else "on",
        "HTTP3": "" if http3 else "# off: ",
        "ALTERNATIVE_SERVICE": f'h3=":{port}"; ma=86400' if http3 else "",
        "SLOW_REQUEST": at_least(int(values["SLOW_REQUEST_SECONDS"])),
        "FIRST_SERVER_NAME": values["NGINX_SERVER_NAME"].split()[0],
        "SET_REAL_IP_FROM": "\n".join(f"set_real_ip_from {proxy};" for proxy in proxies),
        "TRUSTED_PROXIES_GEO": "\n".join(f"    {proxy} 1;" for proxy in proxies),
        "LIMIT_CONNECTIONS": "# off: " if values["NGINX_LIMIT_CONNECTIONS"] == "0" else "",
        "LIMIT_REQUESTS": "# off: " if values["NGINX_LIMIT_REQUESTS"] == "0" else "",
        # nginx waits longer than harakiri, so that it is uWSGI that ends a slow request and says which.
        "NGINX_READ_TIMEOUT": str(int(values["UWSGI_HARAKIRI"]) + 5),
    }


def at_least(number: int) -> str:
    """A regular expression for whole numbers from `number` on, since nginx cannot compare; for none where it is 0."""
    if number == 0:
        return "(?!)"
    digits = str(number)
    choices = [digits, rf"[1-9]\d{{{len(digits)},}}"]
    for place, digit in enumerate(digits):
        if digit != "9":
            choices.append(rf"{digits[:place]}[{int(digit) + 1}-9]\d{{{len(digits) - place - 1}}}")
    return f"({'|'.join(choices)})"


def bound_memory(values: dict[str, str], report: Report) -> None:
    """Fill in UWSGI_RELOAD_ON_RSS, and warn of workers that together may need more than the memory limit."""
    processes = int(values["UWSGI_PROCESSES"])
    each = int(values["UWSGI_RELOAD_ON_RSS"] or limits.worker_memory(processes) // limits.MIB)
    values["UWSGI_RELOAD_ON_RSS"] = str(each)
    chosen = os.environ.get("UWSGI_PROCESSES") or os.environ.get("UWSGI_RELOAD_ON_RSS")
    if chosen and not limits.fits(processes, each * limits.MIB):
        report.warnings.append(
            f"UWSGI_PROCESSES={processes} of up to UWSGI_RELOAD_ON_RSS={each} MB each may need more than the memory "
            f"limit of {(limits.memory() or 0) // limits.MIB} MB: the kernel would kill what a worker is doing"
        )


def main() -> int:
    """Check the process's environment; print assignments, or every error. Returns the exit status."""
    report = Report()
    check_variables(os.environ, report)
    check_watchdog(report)
    warn_of_unknown(os.environ, report)
    before = len(report.errors)
    check_settings_module(report)
    importable = len(report.errors) == before
    check_data(os.environ, report)
    check_tls(report)
    if report.errors and importable:
        check_settings(os.environ, report)
    derived = {} if report.errors else derive(report.values, report)
    for message in report.warnings:
        print(f"warning: {message}", file=sys.stderr)
    for _, message in report.errors:
        print(f"error: {message}", file=sys.stderr)
    if not report.errors:
        exported = report.values | derived
        exported["DATA_DIR"] = os.environ.get("DATA_DIR", "/data")
        exported["TEMPLATE_VARIABLES"] = " ".join(f"${{{name}}}" for name in exported)
        for name, value in exported.items():
            print(f"export {name}={shlex.quote(value)}")
    return report.status


if __name__ == "__main__":
    sys.exit(main())
