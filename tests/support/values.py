"""Values that the fuzz test gives the variables: usual ones, usual ones with odd parts, and random text."""

import os

from hypothesis import strategies as st

from dockerable.container import kinds
from dockerable.container.variables import CONTAINER, Variable

FILE = "/etc/hostname"
TOKENS = [
    *";{}#'\"\\$`|&<>()*%@:,=~!?^[] \t\r\n\v\f\x1b\x7f\x85\u2028\u202e\ufeff",
    *("${DATA_DIR}", "$host", "$(id)", "include /etc/passwd;", "; } server { listen 81; ", "# off: ", "\\\n", "http:"),
    *("0", "-1", "01", "+1", "1e3", "1_0", "0x10", "\uff11", "\u0663", "\xb2", "on", "_", "..", "/0", "%eth0", "xn--"),
    *("\xdf", "\u0130", "\udcff", "a" * 64, "a." * 127, "9" * 4301, "x" * 5000, "a.test", "10.0.0.0/8", "::1", "[::1]"),
]
label = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", fullmatch=True)
name = st.lists(label, min_size=1, max_size=4).map(".".join)
special = st.sampled_from(
    ["*.example.com", "[::1]", "127.0.0.1", "localhost", "a", f"{'x' * 63}.test", "::1", "_", "."]
)
address = st.ip_addresses().map(str) | st.sampled_from(["::ffff:192.0.2.1", "10.0.0.0/255.0.0.0", "0.0.0.0/1"])
network = address | st.builds("{}/{}".format, address, st.integers(0, 129))
many_names = st.integers(1, 2000).map(lambda number: " ".join(f"{'x' * 30}{one}.example.com" for one in range(number)))
many_networks = st.integers(1, 5000).map(lambda number: " ".join(f"10.{i >> 8}.{i & 255}.0/24" for i in range(number)))
number = st.one_of(st.sampled_from(["0", "1"]), st.integers(-1, 130).map(str), st.integers(0, 2**33).map(str))

# By the name of the kind.
USUAL = {
    "module": st.from_regex(r"[a-z_]\w{0,9}(\.[a-z]\w{0,9}){0,3}", fullmatch=True),
    "server names": st.lists(name | special, min_size=1, max_size=6).map(" ".join) | many_names,
    "switch": st.sampled_from([*kinds.SWITCH, "ON", "False", "ture"]),
    "mail address": st.emails(),
    "URL": st.from_regex(r"https://[\w.]{1,20}(:\d{1,5})?(/[\w.~?&=%+-]{0,20})?", fullmatch=True),
    "word": st.from_regex(r"[\w-]{0,12}", fullmatch=True),
    "file": st.sampled_from([FILE, "/nowhere", "relative", "/a b"]),
    "networks": st.lists(network, max_size=6).map(" ".join) | many_networks,
    "path": st.from_regex(r"/[!-~]{0,40}", fullmatch=True),
    "size": st.builds("{}{}".format, st.integers(0, 10**7), st.sampled_from(["", *"kKmMgGtT"])),
    "choice": st.sampled_from(["text", "json", "JSON", "debug", "Info", "critical"]),
    "whole number": number | st.just(""),
}
hostile = st.lists(st.sampled_from(TOKENS), max_size=8).map("".join)
hostile |= st.text(max_size=20) | st.binary(max_size=12).map(os.fsdecode)


def kind(variable: Variable) -> str:
    return variable.kind.name


def values(usual: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Usual values, usual values with something inserted, and random text."""

    def insert(value: str, token: str, place: int) -> str:
        place %= len(value) + 1
        return value[:place] + token + value[place:]

    changed = st.builds(insert, usual, hostile, st.integers(0, 50) | st.just(-1))
    # No variable can hold NUL.
    return st.one_of(usual, usual, usual, changed, hostile).map(lambda value: value.replace("\0", ""))


# None: not set.
DRAWN = {one.name: st.none() | values(USUAL[kind(one)]) for one in CONTAINER.values()}
# More often on than off: HTTPS has more variables to test.
DRAWN["USE_SSL"] |= st.sampled_from(["on", "off"]) | st.just("on") | st.just("on")
CANDIDATES = st.fixed_dictionaries(DRAWN).map(
    lambda drawn: {name: value for name, value in drawn.items() if value is not None}
)
