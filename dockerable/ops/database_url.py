"""What is wrong with a database address such as postgres://user:password@host:5432/name, in words without its value.

For the validator of a project's settings: the library that reads the address does not say which character is wrong.
"""

from urllib.parse import urlsplit

EXAMPLE = "(example: postgres://user:password@host:5432/name)"
ENCODE = "in user name and password write %23 for #, %2F for /, %3F for ?, %40 for @, %25 for %"
# What ends the part of an address that has user name and password.
ENDS = {"#": "%23", "/": "%2F", "?": "%3F"}


def problem(url: str) -> str:
    """What is wrong with the address, to follow its source's name in a message; empty if nothing is found."""
    if url != url.strip():
        return "has a space or a line end around it: take it away"
    if url[:1] in ("'", '"'):
        return f"is in quotation marks: take them away {EXAMPLE}"
    scheme, colon, rest = url.partition("://")
    if not colon or not scheme:
        return f"is no database address {EXAMPLE}"
    if scheme.startswith(("sqlite", "spatialite")):
        return ""
    if character := unencoded(rest):
        return f"has a {character} that must be percent-encoded as {ENDS[character]}: {ENCODE}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"has a user name, password, host or port that is not in the form of an address: {ENCODE} {EXAMPLE}"
    if parts.hostname and port == 0:
        return f"has the port 0 {EXAMPLE}"
    return "" if parts.path.strip("/") else f"names no database {EXAMPLE}"


def unencoded(rest: str) -> str:
    """The character that ends the part with user name and password too early; empty if none does.

    `rest` is the address after its scheme. An address has no fragment, so any # is wrong. A / or ? is wrong if the @
    that ends the password comes after it: in the path after a /, or after a ? where there is no path.
    """
    if "#" in rest:
        return "#"
    first = min((rest.find(character) for character in "/?" if character in rest), default=-1)
    if first < 0 or "@" in rest[:first]:
        return ""
    later = rest[first:].partition("?")[0] if rest[first] == "/" else rest[first:]
    return rest[first] if "@" in later else ""
