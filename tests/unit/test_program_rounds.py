"""The rounds of the certificate program: what it does when, and that it says each thing once."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockerable.certificates import backoff, clock, pairs, program, served
from dockerable.container import nginx, places
from tests.support.acme import DIRECTORY, pem
from tests.support.certificate_host import Host, Lines
from tests.support.certificates import NAMES, lineage, made_up, write

DAY = timedelta(days=1)


def test_the_first_certificate_is_ordered_and_served_with_few_words(host: Host, lines: Lines) -> None:
    lineage(host.place / "next")
    one = host.program()
    one.look()
    said = lines()
    assert [line.partition(", valid")[0] for line in said] == [
        "nginx has a temporary certificate for example.test www.example.test",
        f"the stored certificate does not exist yet; asking {DIRECTORY}",
        "nginx has a certificate of CN=an authority for example.test www.example.test",
    ]
    assert "certonly" in host.calls()[0]
    assert json.loads(places.CERTIFICATE_STATUS.read_text())["state"] == "ok"
    assert host.reloads == 2
    for _ in range(3):
        one.look()
    assert (lines(), len(host.calls()), host.reloads) == ([], 1, 2)


def test_a_failure_is_not_repeated_before_its_time(host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.place / "refusal").write_text("too many certificates\n")
    one = host.program()
    for _ in range(3):
        one.look()
    said = lines()
    assert said[-2] == "note: a finding"
    assert said[-1].startswith("error: no certificate: too many certificates; next try at 2")
    assert (len(host.calls()), len(said)) == (1, 4)
    assert json.loads(places.CERTIFICATE_STATUS.read_text())["state"] == "temporary"
    later = clock.now() + backoff.FIRST_BACKOFF + timedelta(seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    one.look()
    assert len(host.calls()) == 2
    # At once, not within a minute.
    assert json.loads(places.CERTIFICATE_STATUS.read_text())["last_attempt"] == clock.rfc3339(later)


def test_whether_to_renew_is_asked_once_in_an_interval(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage(places.LETSENCRYPT)
    now = 1000.0
    monkeypatch.setattr(program, "time", SimpleNamespace(monotonic=lambda: now))
    one = host.program()
    one.look()
    one.look()
    assert host.calls() == ["renew --non-interactive --cert-name example.test --no-directory-hooks"]
    now += 12 * 3600 + 1
    one.look()
    assert len(host.calls()) == 2


def test_a_lost_account_is_replaced(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT)
    account = places.LETSENCRYPT / "accounts/pebble:14000/dir/1"
    account.mkdir(parents=True)
    (host.place / "refusal").write_text("urn:ietf:params:acme:error:accountDoesNotExist :: no\n")
    one = host.program()
    assert not one.attempt(asked=True)
    assert "the authority does not know our account any more; registering another" in lines()
    assert [call.partition(" ")[0] for call in host.calls()] == ["renew", "certonly"]
    assert not account.exists()
    assert [*places.LETSENCRYPT.glob("broken/account-*/1")]


def test_a_certificate_that_is_no_good_is_a_failure(host: Host, lines: Lines) -> None:
    lineage(host.place / "next", days=-1)
    assert not host.program().attempt()
    assert "error: no certificate: certbot got one, and yet the stored certificate has expired" in lines()[-2]


def test_what_certbot_cannot_use_is_kept_elsewhere_and_served_on(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT).conf.write_text("")
    (host.place / "refusal").write_text("no\n")
    host.program().look()
    assert [line for line in lines() if line.startswith(f"what is stored is kept in {places.LETSENCRYPT}/broken/")]
    pair = served.in_use()
    assert pair and not pair.temporary


def test_another_way_to_answer_the_authority_needs_no_new_certificate(host: Host, lines: Lines) -> None:
    conf = lineage(places.LETSENCRYPT, standalone=True).conf
    assert "authenticator = standalone" in conf.read_text()
    host.program().look()
    assert "the stored certificate will be renewed by webroot from now on" in lines()
    assert "authenticator = webroot" in conf.read_text()
    assert "pref_challs" not in conf.read_text()
    assert host.calls()[0].startswith("renew ")


def test_nginx_that_serves_another_certificate_is_reloaded(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT)
    one = host.program()
    one.look()
    lines()
    host.serves, one.next_ask = made_up().leaf, 0.0
    one.look()
    assert lines() == ["nginx serves another certificate than it was given: reloading it"]
    assert host.reloads == 2
    one.look()
    assert (lines(), host.reloads) == ([], 2)


def test_what_nginx_refuses_is_an_error_and_ends_nothing(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx, "reload", lambda: "no such file")
    assert host.program().install()
    assert "error: nginx refuses its configuration, it serves on with the old one: no such file" in lines()


def test_the_nginx_of_another_uid_is_left_to_the_program(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise PermissionError

    monkeypatch.setattr(nginx, "reload", refuse)
    assert host.program().install()


def test_a_broken_replacement_of_an_own_certificate_is_said_once_and_not_used(host: Host, lines: Lines) -> None:
    variables = host.own()
    one = host.program(**variables)
    one.look()
    good = served.in_use()
    lines()
    key = Path(variables["TLS_CERTIFICATE_KEY"])
    mended = key.read_bytes()
    for _ in range(2):
        key.write_bytes(made_up().key)
        one.look()
        one.look()
        assert lines() == [f"error: {variables['TLS_CERTIFICATE']} has a key that does not belong to it"]
        assert served.in_use() == good
        key.write_bytes(mended)
        one.look()
        assert lines() == []
    assert host.calls() == []


@pytest.mark.parametrize("when", ["before the switch", "after it"])
def test_what_nginx_refuses_does_not_replace_what_works(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    variables = host.own()
    file = variables["TLS_CERTIFICATE"]
    one = host.program(**variables)
    one.look()
    good = served.in_use()
    lines()
    with monkeypatch.context() as patched:
        if when == "before the switch":
            host.refuses = "no"
        else:
            patched.setattr(nginx, "reload", lambda: "no")
        bad = made_up()
        write(bad, Path(file).parent)
        for _ in range(3):
            one.next_ask = 0.0
            one.look()
    host.refuses = ""
    said = [f"error: {file} is refused by nginx: no"]
    if when == "after it":
        said = ["error: nginx refuses its configuration, it serves on with the old one: no", *said]
    assert lines() == said
    assert served.in_use() == good
    status = json.loads(places.CERTIFICATE_STATUS.read_text())
    assert (status["state"], status["problem"]) == ("failing", "is refused by nginx: no")
    monkeypatch.setattr(served, "RETRY", 0)
    one.look()
    assert served.in_use() == bad


def test_a_stored_one_that_nginx_refuses_is_said_and_not_ordered_again(host: Host, lines: Lines) -> None:
    lineage(places.LETSENCRYPT)
    host.refuses = "no"
    one = host.program()
    for _ in range(2):
        one.look()
    assert [line for line in lines() if "error" in line] == ["error: the stored certificate is refused by nginx: no"]
    assert "certonly" not in "".join(host.calls())
    pair = served.in_use()
    assert pair and pair.temporary


def test_a_leaf_without_its_chain_is_served_with_a_warning(host: Host, lines: Lines) -> None:
    pair = made_up()
    variables = host.own(chain=pem(pair.leaf), key=pair.key)
    one = host.program(**variables)
    for _ in range(2):
        one.look()
    assert [line for line in lines() if "warning" in line] == [
        f"warning: {variables['TLS_CERTIFICATE']} comes without the certificate of its issuer CN=an authority: clients "
        "that do not have that one refuse the site (remedy: append the authority's chain)"
    ]
    given = served.in_use()
    assert given and given.leaf == pair.leaf


def test_an_own_certificate_that_breaks_under_a_temporary_one_ends_the_program(host: Host, lines: Lines) -> None:
    served.install(pairs.make_temporary(NAMES))
    variables = host.own(key=b"")
    with pytest.raises(program.Refused) as refused:
        host.program(**variables).look()
    assert (refused.value.status, str(refused.value)) == (65, "")


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (NAMES, 22.5, []),
        (NAMES, 20.5, ["warning: {file} expires in 20 days: replace it"]),
        (
            NAMES[:1],
            -1,
            ["warning: {file} does not cover www.example.test", "warning: {file} has expired on {until}: replace it"],
        ),
    ],
)
def test_what_its_owner_must_mend_is_warned_of_once_a_day(
    host: Host, lines: Lines, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], days: float, said: list[str]
) -> None:
    pair = made_up(names, days=days)
    chain, key = write(pair, host.place / "own")
    one = host.program(TLS_CERTIFICATE=str(chain), TLS_CERTIFICATE_KEY=str(key))
    until = clock.rfc3339(pair.leaf.not_valid_after_utc)
    expected = [line.format(file=chain, until=until) for line in said]
    one.look()
    assert lines()[1:] == expected
    one.look()
    assert lines() == []
    tomorrow = clock.now() + DAY
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    one.look()
    assert len(lines()) == len(expected)
