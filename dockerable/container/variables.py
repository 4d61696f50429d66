"""The table of all variables: allowed values, default, description, and which program reads it.

The checks at start, their messages, the warnings about misspelt names (unknown_variables.py), and VARIABLES.md
(variables_page.py) are made from this table.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

from dockerable.container import kinds, limits
from dockerable.container.exit_status import USAGE
from dockerable.container.kinds import Invalid, Kind, integer, one_of, shown
from dockerable.container.places import APP
from dockerable.container.report import Report

# The most characters of a value. The kernel limits what a program may get as its environment; this is far below.
LONGEST = 16384
# Seconds by which WATCHDOG_TIMEOUT must exceed UWSGI_HARAKIRI, since a worker that harakiri kills needs up to ten to be
# replaced; and by which it does by default.
LEAST_WATCHDOG_MARGIN, WATCHDOG_MARGIN = 10, 30
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


class Derived:
    """A default that depends on the machine or on variables above it in the table.

    `words` describe it in VARIABLES.md; `of` computes it from the values checked so far.
    """

    def __init__(self, words: str, of: Callable[[Mapping[str, str]], str]) -> None:
        self.words, self.of = words, of


class Variable:
    """A row of the table. A variable whose default is None must be set; an empty value counts as not set.

    `owner` is who reads the variable: `container` (its programs, which also check it), `host` (ctl and the compose
    files) or `project` (its settings).
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        default: str | Derived | None,
        description: str,
        example: str = "",
        owner: str = "container",
    ) -> None:
        self.name, self.kind, self.default = name, kind, default
        self.description, self.example, self.owner = description, example, owner

    def check(self, value: str) -> str:
        """The normalised value. Raises Invalid."""
        if len(value) > LONGEST:
            raise Invalid(f"has {len(value)} characters, more than {LONGEST}")
        return self.kind.check(value)

    def default_of(self, values: Mapping[str, str]) -> str:
        """The default, given the values checked so far. Raises KeyError if one that it depends on is missing."""
        return self.default.of(values) if isinstance(self.default, Derived) else self.default or ""


def settings_default(_: Mapping[str, str]) -> str:
    """The settings module that manage.py sets as its default; empty if there is none."""
    try:
        found = re.search(r"""DJANGO_SETTINGS_MODULE["'], *["']([\w.]+)""", (APP / "manage.py").read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def memory_of_a_worker(values: Mapping[str, str]) -> str:
    """The megabytes of memory that each worker may use."""
    return str(limits.worker_memory(int(values["UWSGI_PROCESSES"])) // limits.MIB)


TABLE: dict[str, tuple[Variable, ...]] = {
    "The site": (
        Variable(
            "NGINX_SERVER_NAME",
            kinds.SERVER_NAMES,
            None,
            "Names of the site; a request for any other name gets no answer.",
            "www.example.com",
        ),
        Variable(
            "DJANGO_SETTINGS_MODULE",
            kinds.MODULE,
            Derived("what manage.py names", settings_default),
            "The settings.",
            "project.settings.example.settings",
        ),
        Variable(
            "TRUSTED_PROXIES",
            kinds.NETWORKS,
            "",
            "Load balancers in front: their X-Forwarded-For, -Proto and -Port are believed.",
            "10.0.0.0/8",
        ),
        Variable("RUN_MIGRATIONS", kinds.SWITCH_KIND, "on", "Apply migrations before the site is served."),
        Variable(
            "HEALTH_PATH",
            kinds.PATH,
            "",
            "A page of the site that the health check asks for, instead of PID 1's verdict. It waits behind requests.",
            "/health/",
        ),
    ),
    "The log": (
        Variable("LOG_FORMAT", one_of("text", "json"), "text", "A line as text, or as a JSON object."),
        Variable(
            "LOG_LEVEL",
            one_of(*LOG_LEVELS),
            "info",
            "The least level of Django's records that is logged.",
        ),
        Variable(
            "SLOW_REQUEST_SECONDS",
            integer(0, 3600, "seconds", zero="never"),
            "5",
            "A request that takes the application this long or longer is a warning in the access log.",
        ),
    ),
    "HTTPS": (
        Variable("USE_SSL", kinds.SWITCH_KIND, "off", "Serve HTTPS, and redirect HTTP to it."),
        Variable(
            "EMAIL_ADDRESS",
            kinds.MAIL_ADDRESS,
            "",
            "For the certificate authority, which may write to it.",
            "admin@example.com",
        ),
        Variable("HTTPS_PORT", integer(1, 65535), "443", "The port that visitors use."),
        Variable(
            "HSTS_SECONDS",
            # Mozilla's guideline 6.0: two years.
            integer(0, 2**31 - 1, "seconds", zero="takes it back"),
            "63072000",
            "How long browsers insist on HTTPS once they have seen the site.",
        ),
        Variable("NGINX_HTTP3", kinds.SWITCH_KIND, "off", "HTTP/3 beside HTTP/2; publish 443/udp as well."),
        Variable(
            "ACME_SERVER",
            kinds.HTTPS_URL,
            "",
            "Directory URL of another authority than Let's Encrypt.",
            "https://acme.example.com/directory",
        ),
        Variable(
            "ACME_STAGING", kinds.SWITCH_KIND, "off", "Let's Encrypt's staging server, to try without its limits."
        ),
        Variable("ACME_PROFILE", kinds.WORD, "", "The authority's profile; addresses need `shortlived`.", "shortlived"),
        Variable(
            "ACME_CA_BUNDLE",
            kinds.FILE,
            "",
            "PEM file of the authorities that the ACME server's own certificate is checked against.",
            "/run/secrets/ca.pem",
        ),
        Variable("ACME_EAB_KID", kinds.WORD, "", "Key id of an external account.", "kid-1"),
        Variable("ACME_EAB_HMAC_FILE", kinds.FILE, "", "File of the external account's HMAC key.", "/run/secrets/eab"),
        Variable(
            "ACME_DNS_PLUGIN",
            kinds.WORD,
            "",
            "certbot's DNS plugin, for DNS-01; wildcards need it.",
            "cloudflare",
        ),
        Variable("ACME_DNS_CREDENTIALS", kinds.FILE, "", "The plugin's credentials file.", "/run/secrets/dns.ini"),
        Variable(
            "ACME_DNS_PROPAGATION_SECONDS",
            integer(0, 3600, "seconds"),
            "30",
            "How long a DNS record needs until the authority sees it.",
        ),
        Variable(
            "TLS_CERTIFICATE",
            kinds.FILE,
            "",
            "PEM file of your own certificate, the leaf first, then its chain; certbot is then not used.",
            "/tls/site.pem",
        ),
        Variable("TLS_CERTIFICATE_KEY", kinds.FILE, "", "PEM file of that certificate's private key.", "/tls/site.key"),
    ),
    "The application": (
        Variable(
            "UWSGI_PROCESSES",
            integer(1, 512),
            Derived(
                "two a CPU that fit into the memory limit: at most one in 128 MB, two in 256, six in 512",
                lambda _: str(limits.default_processes()),
            ),
            "Workers.",
        ),
        # Threads of a worker share one interpreter, and when a worker is killed all its threads' requests are lost.
        Variable(
            "UWSGI_THREADS",
            integer(1, 128),
            "1",
            "Threads of each worker. More for pages that wait for other servers; pages that compute take turns.",
        ),
        Variable(
            "UWSGI_HARAKIRI",
            integer(1, 3600, "seconds"),
            "60",
            "How long a request may take. Its worker is then replaced, and the log has URL, request id and stack. "
            "Before that it may wait for a worker as long, 10 seconds at least.",
        ),
        Variable(
            "UWSGI_RELOAD_ON_RSS",
            integer(0, 1048576, "megabytes", zero="no bound"),
            Derived("what keeps all workers within the memory limit", memory_of_a_worker),
            "A worker that takes more memory is replaced between two requests.",
        ),
        Variable(
            "WATCHDOG_TIMEOUT",
            integer(0, 86400, "seconds", zero="off"),
            Derived(
                f"{WATCHDOG_MARGIN} more than UWSGI_HARAKIRI",
                lambda values: str(int(values["UWSGI_HARAKIRI"]) + WATCHDOG_MARGIN),
            ),
            "The container ends after this time, and up to ten seconds more, without an answer or any progress.",
        ),
        Variable(
            "UWSGI_LISTEN",
            integer(1, 65535),
            "1024",
            "Backlog of uWSGI's socket; no more than the host's net.core.somaxconn.",
        ),
    ),
    "nginx": (
        Variable(
            "NGINX_WORKER_PROCESSES",
            integer(1, 64),
            Derived("one a CPU", lambda _: str(min(limits.cpus(), 64))),
            "Workers.",
        ),
        Variable("NGINX_WORKER_CONNECTIONS", integer(64, 65535), "2048", "Connections of each worker."),
        Variable("NGINX_CLIENT_MAX_BODY_SIZE", kinds.SIZE, "20m", "The largest request body."),
        Variable("NGINX_CLIENT_HEADER_TIMEOUT", integer(1, 3600, "seconds"), "10", "For a request's headers."),
        Variable("NGINX_CLIENT_BODY_TIMEOUT", integer(1, 3600, "seconds"), "30", "Between two reads of a body."),
        Variable("NGINX_SEND_TIMEOUT", integer(1, 3600, "seconds"), "30", "Between two writes of an answer."),
        Variable(
            "NGINX_KEEPALIVE_TIMEOUT", integer(0, 3600, "seconds"), "65", "How long an idle connection stays open."
        ),
        Variable(
            "NGINX_LIMIT_CONNECTIONS",
            integer(0, 65535, zero="no limit"),
            "0",
            "Requests at once that one client may have.",
        ),
        Variable(
            "NGINX_LIMIT_REQUESTS",
            integer(0, 10000, "a second", zero="no limit"),
            "0",
            "Requests to the application that one client may send.",
        ),
        Variable(
            "NGINX_LIMIT_REQUESTS_BURST",
            integer(1, 100000),
            "20",
            "Requests beyond NGINX_LIMIT_REQUESTS that one client may send at once.",
        ),
    ),
    "Read by the project's settings": tuple(
        Variable(name, kind, default, description, example, "project")
        for name, kind, default, description, example in (
            ("DATA_DIR", kinds.FILE, "/data", "The folder of the database file and of uploads; the image sets it.", ""),
            ("STATIC_ROOT", kinds.FILE, "/srv/static", "The folder of collected static files; the image sets it.", ""),
            ("SECRET_KEY", kinds.TEXT, None, "Django's; `local` makes its own.", ""),
            ("DEBUG", kinds.SWITCH_KIND, "off", "Django's; refused outside `local`.", ""),
            (
                "ALLOWED_HOSTS",
                kinds.TEXT,
                Derived("NGINX_SERVER_NAME", lambda values: values["NGINX_SERVER_NAME"]),
                "Django's; names separated by spaces.",
                "",
            ),
            (
                "DATABASE_URL",
                kinds.TEXT,
                Derived("SQLite in the data folder", lambda _: ""),
                "The database.",
                "postgres://user:password@host:5432/name",
            ),
            (
                "EMAIL_HOST",
                kinds.TEXT,
                Derived("none: mail is printed to the log", lambda _: ""),
                "The mail server.",
                "",
            ),
            ("EMAIL_PORT", integer(1, 65535), "587", "587 means STARTTLS, 465 TLS.", ""),
            ("EMAIL_HOST_USER", kinds.TEXT, "", "The account at the mail server.", ""),
            ("EMAIL_HOST_PASSWORD", kinds.TEXT, "", "The password of the account at the mail server.", ""),
            ("DEFAULT_FROM_EMAIL", kinds.TEXT, "webmaster@localhost", "The sender of mail.", ""),
        )
    ),
    "Read by ctl and the compose files on the host": tuple(
        Variable(name, kinds.TEXT, default, description, example, "host")
        for name, default, description, example in (
            ("IMAGE", "dockerable:latest", "The image to build and run.", ""),
            ("BASE_IMAGE", "debian:trixie-slim", "The base image that IMAGE is built on.", ""),
            ("CERTBOT_PLUGINS", "", "DNS plugins of certbot to build in.", "certbot-dns-cloudflare"),
            (
                "DEBIAN_MIRROR",
                Derived("what the host's own apt uses, else Debian's", lambda _: ""),
                "Where a base image made on this host gets its packages: below it are debian and debian-security.",
                "http://mirror.example.com",
            ),
            (
                "HTTP_PORT",
                Derived("8000 for `local`, 80 for `example`", lambda _: ""),
                "The host's port for HTTP; with an address before it, on that address only.",
                "192.0.2.1:80",
            ),
            (
                "SYSLOG_ADDRESS",
                "unixgram:///var/lib/dockerable/dev/log",
                "Where an environment that logs to syslog sends its log.",
                "tcp://192.0.2.1:514",
            ),
        )
    ),
}
VARIABLES = {variable.name: variable for section in TABLE.values() for variable in section}
CONTAINER = {name: variable for name, variable in VARIABLES.items() if variable.owner == "container"}
FILES = tuple(name for name, variable in CONTAINER.items() if variable.kind is kinds.FILE)


def check(
    environ: Mapping[str, str], report: Report, *, known: Mapping[str, str] | None = None, required: bool = True
) -> None:
    """Check all variables of the container: add values and errors to the report.

    `known` has values that were checked before, for variables that `environ` lacks. With `required` off, a variable
    without a default may be missing.
    """
    for variable in CONTAINER.values():
        value = environ.get(variable.name)
        if value is None or (value == "" and variable.default is not None):
            take_default(variable, report, known or {}, required)
            continue
        try:
            report.values[variable.name] = variable.check(value)
        except Invalid as reason:
            report.error(USAGE, refusal(variable.name, value, str(reason)))


def take_default(variable: Variable, report: Report, known: Mapping[str, str], required: bool) -> None:
    """Add the value of a variable that is not set: the known one, else the default, else an error."""
    if variable.name in known:
        report.values[variable.name] = known[variable.name]
    elif variable.default is None:
        if required:
            report.error(USAGE, f"{variable.name} is not set (example: {variable.example})")
    else:
        # A KeyError means that the variable it depends on is wrong, which has been reported.
        with suppress(KeyError):
            report.values[variable.name] = variable.default_of(report.values)


def refusal(name: str, value: str, reason: str) -> str:
    """The message about a wrong value; it quotes the value unless `reason` does."""
    link = f"={shown(value)}" if reason.startswith("must ") else ":" if reason[0] in "'\"" else ""
    return f"{name}{link} {reason}"
