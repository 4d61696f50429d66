"""What the README, the pages of docs/ and the contract say is so: commands run, tables are complete both ways."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from dockerable.container import variables, variables_page
from dockerable.container.exit_status import SEVERITY
from tests.support.docker import ROOT, run
from tests.support.pages import NOT_RUN, Block, read_blocks
from tests.support.wait import free_port, wait_until

README = (ROOT / "README.md").read_text()
CONTRACT = (ROOT / "dockerable/README.md").read_text()
TESTS = (ROOT / "tests/README.md").read_text()
DOCS = {page.name: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}
ARCHITECTURE = DOCS["architecture.md"]

# Where each command of contract and tests/README.md is run, and of README.md what test_pages.py does not paste: by a
# test of this module, or by the test that is named.
RUN_BY = {
    "./tests/run.sh": "",  # this very run
    "./tests/run.sh --install-engine": "test_install_engine.py",
    "echo 'EMAIL_ADDRESS=admin@example.com' >>project/settings/prod/.env": "here",
    "./dockerable/ctl up prod --ssl": "test_ctl_cert.py",
    "./dockerable/ctl cert prod": "test_ctl_cert.py",
    "./dockerable/ctl cert prod --renew": "test_ctl_cert.py",
    "docker exec CONTAINER supervisorctl status": "test_start.py",
    "docker exec CONTAINER manage check --deploy": "test_start.py",
    "docker run --rm IMAGE manage help": "test_start.py",
    "docker exec CONTAINER reload": "test_reload.py",
}


def lines(found: list[Block]) -> set[str]:
    """Every command of these blocks."""
    return {line for block in found for line in block.lines}


def not_pasted(text: str, page: str) -> set[str]:
    """Every command of a page that test_pages.py does not paste."""
    return lines([block for block in read_blocks(text, page) if block.marker == NOT_RUN])


def table(text: str, heading: str) -> dict[str, str]:
    """Variable to default, from the tables under a heading."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*?) \|", section, re.M)
    return {name: default for names, default in rows for name in re.findall(r"`([A-Z_0-9]+)`", names)}


def test_every_command_is_run_by_a_test() -> None:
    given = not_pasted(README, "README.md")
    for page in (CONTRACT, TESTS):
        given |= lines(read_blocks(page, "README.md"))
    assert given <= set(RUN_BY)
    assert set(RUN_BY) <= given.union(*(not_pasted(text, page) for page, text in DOCS.items()))
    for module in set(RUN_BY.values()) - {"", "here"}:
        assert list(ROOT.glob(f"tests/*/{module}")), module


def test_every_variable_that_anything_reads_is_in_the_table() -> None:
    from project.settings.schema import Settings

    read = {name.upper() for name in Settings.model_fields}
    files = [*ROOT.glob("project/settings/*/docker-compose*.yml"), *ROOT.glob("dockerable/docker-compose*.yml")]
    for file in files:
        read |= set(re.findall(r"\$\{([A-Z_]+)", file.read_text()))
    # Handed through from ctl to the build.
    read -= {"HOST_CA", "SOURCE", "REVISION", "VERSION"}
    assert read <= set(variables.VARIABLES)
    owners = {"project": read, "host": read | {"DEBIAN_MIRROR"}}
    for owner, readers in owners.items():
        named = {name for name, variable in variables.VARIABLES.items() if variable.owner == owner}
        # What the image sets for every project.
        assert named - {"DATA_DIR", "STATIC_ROOT"} <= readers


def test_the_short_table_says_what_the_whole_one_says() -> None:
    documented = table(README, "Variables")
    assert len(documented) == 10
    for name, default in documented.items():
        assert default == variables_page.default(variables.VARIABLES[name]), name


def test_exit_statuses_are_those_of_the_program() -> None:
    listed = set(map(int, re.findall(r"^\| (\d+) \|", CONTRACT, re.M)))
    assert listed == {0, 70, *SEVERITY}
    assert "64, 66, 65, 78, 73" in CONTRACT
    assert SEVERITY == (64, 66, 65, 78, 73)


def test_steps_at_start_are_those_of_cmd_sh_in_their_order() -> None:
    section = ARCHITECTURE.split("## What happens at start")[1].split("\n## ")[0]
    body = re.search(r"^start\(\) \{\n(.*?)^\}", (ROOT / "dockerable/cmd.sh").read_text(), re.M | re.S)
    assert body
    steps = re.findall(r"^    (\w+_\w+)$", body[1], re.M)
    told = re.findall(r"^\d\. `(\w+)`", section, re.M)
    assert told == [*steps, "supervise"]


def test_what_is_where_names_what_exists() -> None:
    block = ARCHITECTURE.split("## What is where")[1].split("```")[1]
    folder = ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
            assert (ROOT / folder).is_dir(), line
        else:
            assert (ROOT / folder / name).exists(), line


def anchors(text: str) -> set[str]:
    """What GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "tests/README.md", "tests/CIS.md")]
    for page in (*pages, *ROOT.glob("docs/*.md"), *ROOT.glob("dockerable/*.md")):
        text = page.read_text()
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            place, _, anchor = target.partition("#")
            if place.startswith("https://"):
                continue
            led = page.parent / place if place else page
            assert led.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(led.read_text()), f"{page.name}: {target}"


def test_the_folder_leads_nowhere_outside_of_itself() -> None:
    for page in ROOT.glob("dockerable/*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("https://") or not target.startswith(".."), f"{page.name}: {target}"


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 130
    assert len(README.split()) <= 1400
    assert set(re.findall(r"\]\(docs/([\w-]+\.md)", README)) == set(DOCS)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks or would track."""
    copy = tmp_path_factory.mktemp("clone") / "clone"
    names = run("git", "ls-files", "-co", "--exclude-standard").stdout.split()
    for name in names:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
            (copy / name).chmod((ROOT / name).stat().st_mode)
    return copy


def test_a_new_environment_is_made_as_the_readme_says(tree: Path) -> None:
    server = [block for block in read_blocks(README, "README.md") if block.section == "The first server"]
    for command in [line for block in server for line in block.lines]:
        if not command.startswith(("apt-get", "curl", "./dockerable/")):
            run("sh", "-c", command, cwd=tree)
    made = tree / "project/settings/prod"
    composed = (made / "docker-compose.yml").read_text()
    assert "www.example.com" in composed and "example" not in composed.replace("www.example.com", "")
    assert (made / ".env").read_text().splitlines()[1:] == [
        "COMPOSE_PROJECT_NAME=project-prod",
        "NGINX_SERVER_NAME=www.example.com",
        "EMAIL_ADDRESS=admin@example.com",
    ]
    assert len(json.loads((made / "secrets.json").read_text())["SECRET_KEY"]) == 64
    assert f'user: "{os.getuid() or 10001}:0"' in composed
    assert (made / "secrets.json").stat().st_mode & 0o007 == 0
    assert (made / "letsencrypt").stat().st_mode & 0o027 == 0o020


def test_it_is_an_ordinary_project_without_docker(tree: Path) -> None:
    # The tests' own environment holds the same packages, so pip has nothing to fetch and all to compare.
    run(sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-r", "requirements.txt", cwd=tree)
    run(sys.executable, "manage.py", "migrate", cwd=tree)
    assert "OK" in run(sys.executable, "manage.py", "test", cwd=tree).stderr
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "manage.py", "runserver", "--noreload", str(port)],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/", trust_env=False))
        assert page.status_code == 200
        style = re.search(r'href="(/static/[^"]+\.css)"', page.text)
        assert style and httpx.get(f"http://127.0.0.1:{port}{style[1]}", trust_env=False).status_code == 200
    finally:
        server.terminate()
        server.wait(10)
