"""What certbot keeps, in any state: why it is replaced, how it will be renewed, where it goes when it is broken."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dockerable.certificates import lineage, orders
from dockerable.certificates.pairs import Broken
from dockerable.container import places
from tests.support.acme import DIRECTORY, pem, self_made
from tests.support.certificates import NAMES, made_up, values, wanted
from tests.support.certificates import lineage as make
from tests.support.lineage import Lineage

REQUEST = wanted(ACME_SERVER=DIRECTORY)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(places, "LETSENCRYPT", tmp_path)
    return tmp_path


def change(conf: Path, old: str, new: str) -> None:
    assert old in conf.read_text()
    conf.write_text(conf.read_text().replace(old, new))


FAULTS: dict[str, Callable[[Lineage], object]] = {
    "is incomplete: {live}/fullchain.pem does not exist": lambda one: one.file("fullchain").unlink(),
    "does not parse: its chain is empty, truncated or no PEM": lambda one: one.cut("fullchain", 0),
    "does not parse: its chain is truncated": lambda one: one.cut("fullchain", 0.8),
    "does not parse: its key is empty, truncated, encrypted or no PEM": lambda one: one.cut("privkey", 0.5),
    "has a key that does not belong to it": lambda one: one.file("privkey").write_bytes(made_up().key),
    "has the chain of another authority": lambda one: one.file("fullchain").write_bytes(
        one.file("cert").read_bytes() + pem(self_made(["another"], authority=True)[0])
    ),
    "has a renewal configuration without cert, privkey, chain, fullchain, renewalparams ({conf})": lambda one: (
        one.conf.write_text("")
    ),
    "has a renewal configuration without a section renewalparams ({conf})": lambda one: change(
        one.conf, "[renewalparams]", "renewalparams = 1"
    ),
    "cannot be renewed: {live}/cert.pem is not the link that certbot made": Lineage.copy_links,
    "cannot be renewed: {live}/chain.pem is not the link that certbot made": lambda one: one.file("chain").unlink(),
    "cannot be renewed: {live}/cert.pem is not the certificate of fullchain.pem": lambda one: one.file(
        "cert"
    ).write_bytes(one.file("chain").read_bytes()),
    f"is of https://old.test/dir, wanted is one of {DIRECTORY}": lambda one: change(
        one.conf, DIRECTORY, "https://old.test/dir"
    ),
    f"is of an unknown server, wanted is one of {DIRECTORY}": lambda one: change(one.conf, "server =", "other ="),
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_broken_one_is_replaced_and_the_reason_said(said: str, folder: Path) -> None:
    made = make(folder)
    assert lineage.why_reissue(REQUEST) == ""
    FAULTS[said](made)
    assert lineage.why_reissue(REQUEST) == "the stored certificate " + said.format(live=made.live, conf=made.conf)


@pytest.mark.parametrize("content", [b"[renewalparams\n", b"\xff = \xff\n", None])
def test_a_renewal_configuration_that_cannot_be_read_is_named(content: bytes | None, folder: Path) -> None:
    made = make(folder)
    if content is None:
        made.conf.unlink()
    else:
        made.conf.write_bytes(content)
    said = lineage.why_reissue(REQUEST)
    assert said.startswith(f"the stored certificate has a renewal configuration that cannot be read ({made.conf}: ")


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (NAMES[:1], 60, f"does not cover {NAMES[1]}"),
        ((*NAMES, "b.test", "a.test"), 60, "covers a.test, b.test, no name of this site"),
        (NAMES, -1, "has expired"),
    ],
)
def test_one_for_other_names_or_another_time_is_replaced(
    names: tuple[str, ...], days: float, said: str, folder: Path
) -> None:
    make(folder, names, days=days)
    assert lineage.why_reissue(REQUEST) == f"the stored certificate {said}"


@pytest.mark.parametrize(
    "edit",
    [
        lambda chain: chain.replace(b"-----\n-----", b"----------"),
        lambda chain: chain[: chain.index(b"-----END")] + b"-----END CERTIFICATE-----\n",
        lambda chain: chain + b"text",
    ],
    ids=["joined", "leaf alone", "text"],
)
def test_one_that_can_be_mended_is_mended_and_not_replaced(edit: Callable[[bytes], bytes], folder: Path) -> None:
    file = make(folder).file("fullchain")
    before = file.read_bytes()
    file.write_bytes(edit(before))
    assert file.read_bytes() != before
    assert lineage.why_reissue(REQUEST) == ""
    assert before.startswith(lineage.stored(REQUEST).chain)


def test_none_at_all_is_said_as_such(folder: Path) -> None:
    assert lineage.why_reissue(REQUEST) == "the stored certificate does not exist yet"
    assert lineage.stored_leaf(REQUEST) is None
    assert lineage.set_aside(REQUEST) is None


@pytest.mark.parametrize(
    "given",
    [{}, {"ACME_DNS_PLUGIN": "rfc2136", "ACME_DNS_CREDENTIALS": "/dns", "ACME_DNS_PROPAGATION_SECONDS": "20"}],
)
def test_the_stored_authenticator_follows_the_variables(given: dict[str, str], folder: Path) -> None:
    make(folder, standalone=True)
    options = orders.authenticator(REQUEST, values(**given))
    assert lineage.use_authenticator(REQUEST, options)
    params = lineage.renewal_configuration(REQUEST)["renewalparams"]
    assert {key: params[key] for key in options} == options
    assert "pref_challs" not in params
    assert params["server"] == DIRECTORY
    assert not lineage.use_authenticator(REQUEST, options)
    assert [file.name for file in (folder / "renewal").iterdir()] == [f"{NAMES[0]}.conf"]


def test_a_lineage_that_is_set_aside_is_kept_whole(folder: Path) -> None:
    before = make(folder).file("fullchain").read_bytes()
    aside = lineage.set_aside(REQUEST)
    assert aside and aside.parent == folder / "broken"
    assert (aside / "live" / NAMES[0] / "fullchain.pem").read_bytes() == before
    assert (aside / "renewal" / f"{NAMES[0]}.conf").exists()
    assert not (folder / "live" / NAMES[0]).exists()
    with pytest.raises(Broken, match="does not exist yet"):
        lineage.stored(REQUEST)
