"""The reader who has a project: docs/adopting.md, pasted into one that django-admin has just made."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.compose import remove_project
from tests.support.docker import ROOT, run, unique
from tests.support.own_venv import programs
from tests.support.pages import IN_A_NEW_PROJECT, blocks
from tests.support.stranger import Reader, commit
from tests.support.tree import Images, copy_tree
from tests.support.wait import free_port

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PASTED = [block for page in PAGES for block in blocks(page) if block.marker == IN_A_NEW_PROJECT]
# Keeps what `docker build` prints, which names the images that it makes. All else is docker's.
DOCKER = """#!/bin/sh
[ "$1" = build ] || exec {docker} "$@"
{docker} "$@" >{log} 2>&1
status=$?
cat {log}
exit $status
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Reader, int]]:
    """A reader in a new project beside the clone, and the port of 127.0.0.1 that the site will have."""
    copy_tree(tmp_path / "dockerable-django")
    folder, bin_, log = tmp_path / "shop", tmp_path / "bin", tmp_path / "build.log"
    folder.mkdir()
    run(sys.executable, "-m", "django", "startproject", "shop", ".", cwd=folder)
    commit(folder)
    real = shutil.which("docker")
    assert real
    bin_.mkdir()
    (bin_ / "docker").write_text(DOCKER.format(docker=shlex.quote(real), log=shlex.quote(str(log))))
    (bin_ / "docker").chmod(0o755)
    name, port, images = unique("adopting"), free_port(), Images()
    images.tags.append(f"{name}:latest")
    variables = {
        "PATH": f"{bin_}:{programs('uv')}:{os.environ['PATH']}",
        "UV_NO_CACHE": "1",
        # Where ctl leaves the output of a build that failed.
        "TMPDIR": str(tmp_path),
        "IMAGE": f"{name}:latest",
        "COMPOSE_PROJECT_NAME": name,
        "HTTP_PORT": str(port),
    }
    reader = Reader(folder, variables)
    yield reader, port
    reader.close()
    try:
        remove_project(name)
    finally:
        images.learn(log.read_text() if log.exists() else "")
        images.remove()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_new_project_is_served_once_all_that_the_page_says_is_pasted(shop: tuple[Reader, int]) -> None:
    reader, port = shop
    for block in PASTED:
        shown = reader.paste(block, timeout=600)
    site = f"http://127.0.0.1:{port}"
    assert re.search(r"^ctl: local: healthy after \d+ s$", shown, re.M), shown
    assert shown.endswith(f"\n{site}/\n"), shown
    with httpx.Client(base_url=site, trust_env=False) as client:
        assert client.get("/").status_code == 404
        page = client.get("/admin/login/")
        assert page.status_code == 200
        styles = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
        assert styles and {client.get(style).status_code for style in styles} == {200}
    kept = reader.say("git add -A && git ls-files shop/settings").split()
    assert "shop/settings/local/settings.py" in kept
    reader.say("git check-ignore shop/settings/prod/secrets.json")
