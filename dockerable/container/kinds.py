"""The kinds of value that a variable may hold: each checks a value and gives it in the one form that programs read.

PID 1 imports this module and should stay small: so its classes are plain ones (the module dataclasses costs 10 ms and
1.4 MB), and ipaddress and unicodedata are imported where they are needed.
"""

import re
from collections.abc import Callable

WHOLE_NUMBER, CHOICE = "whole number", "choice"
SHOWN = 80  # characters of a wrong value in a message
SWITCH = {"on": True, "true": True, "yes": True, "1": True}
SWITCH |= {"off": False, "false": False, "no": False, "0": False}


class Invalid(Exception):
    """What is wrong with a value, as the end of the sentence that the variable's name begins."""


class Kind:
    """A kind of value: its name and what may stand there, for the documentation; what checks it; its unit."""

    def __init__(self, name: str, values: str, check: Callable[[str], str], unit: str = "") -> None:
        self.name, self.values, self.check, self.unit = name, values, check, unit


def shown(value: str) -> str:
    """A wrong value as messages quote it: printable, and no longer than a line."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}...")


def integer(low: int, high: int, unit: str = "", *, zero: str = "") -> Kind:
    """A whole number in decimal digits from `low` to `high`; `zero` says what 0 means where it means something else."""
    meaning = f" (0: {zero})" if zero else ""
    values = f"{low} to {high}{' ' + unit if unit else ''}{meaning}"
    wanted = f"must be a whole number from {values}"

    def check(value: str) -> str:
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}", value) or not low <= int(value) <= high:
            raise Invalid(wanted)
        return value

    return Kind(WHOLE_NUMBER, values, check, unit)


def one_of(*words: str) -> Kind:
    """One of these words, in any case; given in lower case."""

    def check(value: str) -> str:
        if value.lower() not in words:
            raise Invalid(f"must be one of {', '.join(words)}")
        return value.lower()

    return Kind(CHOICE, ", ".join(words), check)


def _switch(value: str) -> str:
    if value.lower() not in SWITCH:
        raise Invalid(f"must be one of {', '.join(SWITCH)}")
    return "on" if SWITCH[value.lower()] else "off"


def _size(value: str) -> str:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,5})[kKmMgG]?", value):
        raise Invalid("must be a size such as 512k, 20m or 1g (0: no limit)")
    return value


def _path(value: str) -> str:
    if value and not re.fullmatch(r"/[A-Za-z0-9._~!*+,:@&=?%/()-]{0,1000}", value):
        raise Invalid("must be a path of your site that starts with / (example: /health/)")
    return value


def _file(value: str) -> str:
    # Whether it is there is seen later.
    if value and not re.fullmatch(r"/[\w./@%+=:-]+", value):
        raise Invalid("must be an absolute path in the container")
    return value


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]*", value):
        raise Invalid("must consist of letters, digits, hyphens and underscores")
    return value


def _module(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", value, re.ASCII):
        raise Invalid("must be a Python module (example: project.settings.example.settings)")
    return value


def _mail_address(value: str) -> str:
    if value and not re.fullmatch(r"\w[\w.+%=~-]*@([a-z0-9-]+\.)+[a-z0-9-]+", value, re.ASCII | re.IGNORECASE):
        raise Invalid("must be a mail address (example: admin@example.com)")
    return value


def _https_url(value: str) -> str:
    host = r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?"
    if value and not re.fullmatch(rf"https://{host}(/[\w.~/?&=%+@:-]*)?", value, re.ASCII | re.IGNORECASE):
        raise Invalid("must be an https URL of an ACME directory (example: https://acme.example.com/directory)")
    return value


def _networks(value: str) -> str:
    import ipaddress

    checked = []
    for part in value.split(" "):
        if not part:
            continue
        try:
            network = ipaddress.ip_network(_without_zone(part), strict=False)
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


def _without_zone(address: str) -> str:
    """The address, unless it has a zone (fe80::1%eth0): Python lets any character pass in it. Raises ValueError."""
    if "%" in address:
        raise ValueError(address)
    return address


def _server_names(value: str) -> str:
    names = [_server_name(name) for name in value.split(" ") if name]
    if not names:
        raise Invalid("is empty (example: www.example.com)")
    return " ".join(dict.fromkeys(names))


def _server_name(name: str) -> str:
    """One host name: DNS labels, a leading `*.` allowed, or an address ([::1] in brackets)."""
    import ipaddress

    if not name.isascii():
        raise Invalid(f"{shown(name)} is not ASCII: write {_punycode(name)}")
    name = name.lower()
    if name.startswith("[") and name.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(_without_zone(name[1:-1]))}]"
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


def _punycode(name: str) -> str:
    """The ASCII form of a Unicode host name. Raises Invalid where it has none.

    By hand, since the standard library's IDNA is that of 2003, which makes of some names another domain.
    """
    import unicodedata

    labels = unicodedata.normalize("NFKC", name).lower().split(".")
    try:
        words = [label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels]
        name.encode()
        return _server_name(".".join(words))
    except (UnicodeError, Invalid):
        raise Invalid(f"{shown(name)} is not a host name") from None


def is_address(server_name: str) -> bool:
    """Whether a checked server name is an IP address; IPv6 stands in brackets, or without where they were taken off."""
    return ":" in server_name or server_name.rpartition(".")[2].isdigit()


SWITCH_KIND = Kind("switch", "`on`, `true`, `yes`, `1` or `off`, `false`, `no`, `0`, in any case", _switch)
SERVER_NAMES = Kind("server names", "host names or addresses, separated by spaces", _server_names)
NETWORKS = Kind("networks", "addresses or networks (CIDR), separated by spaces", _networks)
MODULE = Kind("module", "a dotted Python module", _module)
MAIL_ADDRESS = Kind("mail address", "a mail address", _mail_address)
HTTPS_URL = Kind("URL", "an https URL", _https_url)
PATH = Kind("path", "a path of the site, from / on", _path)
FILE = Kind("file", "an absolute path in the container", _file)
WORD = Kind("word", "letters, digits, hyphens, underscores", _word)
SIZE = Kind("size", "bytes, or a number with `k`, `m` or `g`; 0: no limit", _size)
# What the container does not check itself: a project's or the host's.
TEXT = Kind("text", "any text", str)
