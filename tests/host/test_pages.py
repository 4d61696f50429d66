"""The reader who pastes: README.md and docs/, command by command, in a clone of the repository."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.acme import DIRECTORY, Pebble
from tests.support.compose import find_compose
from tests.support.docker import LABEL, ROOT, docker, run, unique
from tests.support.pages import IN_A_CONTAINER, NOT_RUN, UNTIL_CTRL_C, Block, blocks
from tests.support.stranger import Stranger
from tests.support.tree import copy_tree, helper_image
from tests.support.wait import wait_until

README = blocks(ROOT / "README.md")
DOCS = {page.name: blocks(page) for page in sorted((ROOT / "docs").glob("*.md"))}
# Every run pastes it; the others are slow.
QUICK = "troubleshooting.md"
AUTHORITY = "cp ca.pem project/settings/prod/"
# What no test pastes from its page: page and first command of the block, and why. Blocks that need a project of the
# reader's own are pasted by test_adopting.py.
LEFT_OUT = {
    ("README.md", "echo 'EMAIL_ADDRESS=admin@example.com' >>project/settings/prod/.env"): "needs a public name",
    ("deploying.md", "IMAGE=registry.example.com/shop:7 ./dockerable/ctl build"): "needs a registry",
    ("deploying.md", "docker pull registry.example.com/shop:7"): "needs a registry",
    ("deploying.md", "docker-compose -f dockerable/docker-compose-build-only.yml build"): "needs a registry",
    ("https.md", "echo 'EMAIL_ADDRESS=admin@example.com' >>project/settings/prod/.env"): "needs a public name",
    ("https.md", "./dockerable/ctl cert prod --renew"): "needs a public name",
    (
        "https.md",
        "sed -i '/USE_SSL:/a\\      ACME_STAGING: \"on\"' project/settings/prod/docker-compose-ssl.yml",
    ): "needs a public name",
    ("https.md", "sed -i '/ACME_STAGING:/d' project/settings/prod/docker-compose-ssl.yml"): "needs a public name",
    # Pasted by the walk to HTTPS, with Pebble's address in place of the page's.
    ("https.md", AUTHORITY): "needs an ACME server",
}
# What changes the host, where no container of this module runs it.
ELSEWHERE = {"./dockerable/ctl --install-engine up local": "test_install_engine.py"}

NewStranger = Callable[..., Stranger]


def pasted(found: list[Block], section: str = "") -> list[Block]:
    """Those of the blocks, or of a section's, that are pasted here."""
    return [block for block in found if block.marker in ("", UNTIL_CTRL_C) and block.section.startswith(section)]


@pytest.fixture
def new_stranger(tmp_path: Path) -> Iterator[NewStranger]:
    """Makes a Stranger with further variables, and removes it after the test."""
    made: list[Stranger] = []

    def make(variables: Mapping[str, str] | None = None) -> Stranger:
        made.append(Stranger(tmp_path, variables))
        return made[-1]

    yield make
    for stranger in made:
        stranger.remove()


def test_a_stranger_gets_from_the_readme_to_a_running_site(new_stranger: NewStranger) -> None:
    stranger = new_stranger()
    shown = stranger.paste(pasted(README, "Try it")[0])
    assert re.search(r"^ctl: local: healthy after \d+ s$", shown, re.M), shown
    assert f"\nhttp://127.0.0.1:{stranger.local_port}/\n" in shown
    assert "\nHTTP/1.1 200 OK\n" in shown


def test_a_stranger_gets_from_the_readme_to_the_line_of_a_failed_request(new_stranger: NewStranger) -> None:
    stranger = new_stranger()
    shown = stranger.paste_all(pasted(README, "The first server") + pasted(README, "When a request fails"))
    server = shown["The first server"]
    assert "Superuser created successfully." in server and "\nHTTP/1.1 200 OK\n" in server
    number = stranger.say('echo "$id"').strip()
    assert re.fullmatch("[0-9a-f]{32}", number)
    # nginx may keep a line for a quarter of a second; a reader who was quicker asks again.
    again = stranger.translate(pasted(README, "When a request fails")[-1].lines[-1])
    said = shown["When a request fails"] or wait_until(lambda: stranger.say(again), 10)
    lines = said.splitlines()
    assert re.match(rf'nginx\.access: \S+ "HEAD /nothing HTTP/1.1" 404 .* {number}$', lines[0]), lines
    assert all(number in line for line in lines), lines


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stranger_gets_from_the_readme_to_https_with_a_test_authority(
    pebble: Pebble, new_stranger: NewStranger
) -> None:
    stranger = new_stranger()
    # What the Internet does for a public name: the authority reaches the site by it, and the site the authority.
    stranger.edit(
        "example/docker-compose-ssl.yml",
        "    volumes:\n",
        "    networks: {acme: {aliases: [www.example.com]}}\n    volumes:\n",
    )
    file = stranger.tree / "project/settings/example/docker-compose-ssl.yml"
    file.write_text(f"{file.read_text()}\nnetworks:\n  acme: {{external: true, name: {pebble.network}}}\n")
    stranger.own["https://acme.example.com/dir"] = DIRECTORY
    (stranger.tree / "ca.pem").write_bytes(pebble.bundle.read_bytes())

    stranger.paste_all(pasted(README, "The first server"))
    (authority,) = [block for block in DOCS["https.md"] if block.lines[0] == AUTHORITY]
    shown = stranger.paste(authority)
    assert f"\nhttps://127.0.0.1:{stranger.https_port}/\n" in shown
    assert re.search("^HTTP/2 200 *$", shown, re.M), shown

    # The page gives the certificate some seconds; its reader asks again until then.
    said = wait_until(lambda: re.search(r"^state +ok$", stranger.say("./dockerable/ctl cert prod"), re.M), 60).string
    for which in ("stored", "served"):
        assert re.search(rf"^{which} +www\.example\.com, by CN=Pebble Intermediate CA \w+, serial", said, re.M), said
    ask = "curl -skvI --resolve www.example.com:443:127.0.0.1 https://www.example.com/"
    assert "issuer: CN=Pebble Intermediate CA" in stranger.say(f"{stranger.translate(ask)} 2>&1")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page == QUICK else pytest.mark.slow) for page in DOCS if pasted(DOCS[page])],
)
def test_all_that_a_page_says_can_be_pasted_in_its_order(page: str, new_stranger: NewStranger) -> None:
    both = page == "deploying.md"
    if both:
        find_compose("1.29")
    stranger = new_stranger(find_compose("2").variables if both else {})
    stranger.paste_all(pasted(README, "The first server"))
    stranger.paste_all(pasted(DOCS[page]))


def test_what_changes_the_host_runs_on_a_host_of_its_own(tmp_path: Path) -> None:
    """A container with the clone, whose packages are installed already: nothing is fetched."""
    tree, name = copy_tree(tmp_path / "clone"), unique("host")
    words = ("--init", "--network", "none", "--label", LABEL, "-v", f"{tree}:/clone:ro", "-w", "/clone")
    docker("run", "-d", "--name", name, *words, helper_image("rsyslog"), "sleep", "infinity")
    try:
        for block in (block for found in (README, *DOCS.values()) for block in found):
            if block.marker != IN_A_CONTAINER or block.lines[0] in ELSEWHERE:
                continue
            done = run("docker", "exec", name, "sh", "-euxc", "\n".join(block.lines), check=False)
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    finally:
        docker("rm", "-f", "-v", name)
    for module in ELSEWHERE.values():
        assert (ROOT / "tests/host" / module).is_file()


def test_nothing_else_is_left_out() -> None:
    found = [block for page in (README, *DOCS.values()) for block in page if block.marker == NOT_RUN]
    assert {(block.page, block.lines[0]): block.reason for block in found} == LEFT_OUT
    assert len(found) == len(LEFT_OUT)
