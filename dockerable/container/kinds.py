"""The kinds of value that a variable may hold. Each checks a value and returns its normalised form.

PID 1 imports this module and should stay small: so there are no dataclasses (their module costs 10 ms and 1.4 MB),
and ipaddress and unicodedata are imported only in the functions that need them.
"""

import re
from collections.abc import Callable

WHOLE_NUMBER, CHOICE = "whole number", "choice"
SHOWN = 80  # the most characters of a wrong value that a message shows
SWITCH = {"on": True, "true": True, "yes": True, "1": True}
SWITCH |= {"off": False, "false": False, "no": False, "0": False}


class Invalid(Exception):
    """A value is wrong. The text follows the variable's name in a message: "must be a whole number ..."."""


class Kind:
    """A kind of value: its name and allowed values (for VARIABLES.md), the function that checks it, its unit.

    `check` returns the normalised value, or raises Invalid.
    """

    def __init__(self, name: str, values: str, check: Callable[[str], str], unit: str = "") -> None:
        self.name, self.values, self.check, self.unit = name, values, check, unit


def shown(value: str) -> str:
    """A wrong value quoted for a message: printable, and cut after SHOWN characters."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}...")


def integer(low: int, high: int, unit: str = "", *, zero: str = "") -> Kind:
    """A whole number in decimal digits from `low` to `high`; `zero` describes a special meaning of 0."""
    meaning = f" (0: {zero})" if zero else ""
    values = f"{low} to {high}{' ' + unit if unit else ''}{meaning}"
    wanted = f"must be a whole number from {values}"

    def check(value: str) -> str:
        if not re.fullmatch(r"0|[1-9][0-9]{0,9}", value) or not low <= int(value) <= high:
            raise Invalid(wanted)
        return value

    return Kind(WHOLE_NUMBER, values, check, unit)


def one_of(*words: str) -> Kind:
    """One of these words, in upper or lower case; normalised to lower case."""

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
    # checks.py finds out whether the file exists.
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
        # 10.0.0.0/8 and fc00::/7 are the largest private networks; anything larger includes public addresses.
        if network.prefixlen < (8 if network.version == 4 else 7):
            whom = "too many" if network.prefixlen else "everyone"
            raise Invalid(f"{shown(part)} would trust {whom}; name your load balancer's own network")
        if ipaddress.ip_interface(part).ip != network.network_address:
            raise Invalid(f"{shown(part)} has host bits set; did you mean {network}?")
        checked.append(str(network))
    return " ".join(checked)


def _without_zone(address: str) -> str:
    """The address. Raises ValueError if it has a zone (fe80::1%eth0): ipaddress accepts any character in a zone."""
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
    """The ASCII form of a Unicode host name. Raises Invalid if it has none.

    The standard library's `idna` codec implements IDNA 2003, which maps some names to another domain.
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
    """Whether a checked server name is an IP address; an IPv6 address may be with or without its brackets."""
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
# Not checked by the container: variables of the project and of the host.
TEXT = Kind("text", "any text", str)
