"""The pair that nginx gets if the stored certificate is good, partly good, broken or missing; and the one it serves."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from dockerable.certificates import pairs, served
from dockerable.certificates.pairs import Pair
from dockerable.container import nginx as nginx_program
from dockerable.container import places
from tests.support.certificates import NAMES, made_up, wanted, write


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LETSENCRYPT", "TLS"):
        monkeypatch.setattr(places, name, tmp_path / name.lower())
    monkeypatch.setattr(nginx_program, "refusal", lambda _: "")


def store(pair: Pair, folder: str = f"live/{NAMES[0]}") -> Pair:
    write(pair, places.LETSENCRYPT / folder)
    return pair


def test_the_stored_one_is_best_also_where_it_has_expired_or_lacks_a_name() -> None:
    store(made_up(), "live/another.test")
    for good in (made_up(), made_up(days=-1), made_up(NAMES[1:])):
        store(good)
        assert served.best(wanted()) == (good, "")


def test_one_for_none_of_the_names_is_not_served() -> None:
    store(made_up(("other.test",)))
    pair, problem = served.best(wanted())
    assert pair.temporary
    assert pair.names == NAMES
    assert problem == f"covers none of {', '.join(NAMES)}"


def test_in_place_of_a_broken_one_the_spare_that_covers_and_lasts_most_is_served() -> None:
    store(made_up(days=10), "live/www.example.test")
    longest = store(made_up(days=20), "broken/example.test-1/live/example.test")
    store(made_up(NAMES[:1], days=90), "live/example.test-0001")
    store(made_up(days=-1), "live/expired.test")
    places.LETSENCRYPT.joinpath("live/example.test").mkdir()
    pair, problem = served.best(wanted())
    assert pair == longest
    assert problem.startswith("is incomplete: ")


def test_what_nginx_has_is_kept_where_the_stored_one_breaks() -> None:
    good = made_up()
    served.install(good)
    assert served.best(wanted()) == (good, "does not exist yet")


def test_a_spare_that_has_expired_is_no_better_than_a_temporary_one() -> None:
    store(made_up(days=-1), "live/www.example.test")
    assert served.best(wanted())[0].temporary


def test_in_place_of_a_broken_own_one_nginx_keeps_whatever_it_has(tmp_path: Path) -> None:
    store(made_up())
    chain, key = write(made_up(), tmp_path / "own")
    key.write_bytes(b"")
    request = wanted(TLS_CERTIFICATE=str(chain), TLS_CERTIFICATE_KEY=str(key))
    had = made_up(days=-1)
    served.install(had)
    assert served.best(request) == (had, "does not parse: its key is empty, truncated, encrypted or no PEM")


def test_a_temporary_one_is_kept_until_the_names_change() -> None:
    first, _ = served.best(wanted())
    served.install(first)
    assert served.best(wanted())[0] == first
    for names in ("a.test", f"{NAMES[0]} a.test"):
        assert served.best(wanted(NGINX_SERVER_NAME=names))[0].names == tuple(names.split())


def test_what_nginx_refuses_never_becomes_current_and_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = made_up(), store(made_up())
    served.install(good)
    tested: list[Path] = []

    def refuse(configuration: Path) -> str:
        tested.append(configuration)
        return "no" if len(tested) == 1 else ""

    monkeypatch.setattr(nginx_program, "refusal", refuse)
    for _ in range(3):
        assert served.best(wanted()) == (good, "is refused by nginx: no")
    assert len(tested) == 1
    folder = tested[0].parent
    assert Pair.read(folder / "fullchain.pem", folder / "privkey.pem") == bad
    assert f"ssl_certificate {folder}/fullchain.pem;" in tested[0].read_text()
    assert served.in_use() == good
    monkeypatch.setattr(served, "RETRY", 0)
    assert served.best(wanted()) == (bad, "")


def test_a_spare_that_nginx_refuses_is_no_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    store(made_up(days=20), "live/www.example.test")
    monkeypatch.setattr(nginx_program, "refusal", lambda _: "no")
    assert served.best(wanted())[0].temporary


def test_only_another_pair_is_given_to_nginx() -> None:
    one, two = made_up(), made_up()
    assert [served.install(pair) for pair in (one, one, two)] == [True, False, True]
    assert served.in_use() == two
    assert (places.TLS / "current").is_symlink()
    assert not [*places.TLS.glob("new-*")]
    for file in places.TLS.glob("*/privkey.pem"):
        assert file.stat().st_mode & 0o077 == 0


@pytest.fixture
def nginx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Pair]:
    """A server that answers one TLS handshake with this pair, as nginx would."""
    pair = pairs.make_temporary(NAMES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write(pair, tmp_path / "server"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(served, "PORT", listener.getsockname()[1])

        def answer() -> None:
            with context.wrap_socket(listener.accept()[0], server_side=True):
                pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield pair
    thread.join(5)


def test_nginx_is_asked_for_what_it_serves(nginx: Pair) -> None:
    found = served.ask_nginx(wanted())
    assert isinstance(found, x509.Certificate)
    assert found == nginx.leaf


def test_where_nothing_listens_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setattr(served, "PORT", port)
    assert served.ask_nginx(wanted()) is None
