"""What the shipped compose files and the .env beside them say."""

import configparser
import re

import pytest
import yaml

from dockerable.container import init, relay
from tests.support.docker import ROOT


@pytest.mark.parametrize("name", ["local", "example"])
def test_each_environment_has_a_project_name_of_its_own(name: str) -> None:
    """Compose's default is the folder's name: two projects with a `local` would share its volume."""
    lines = (ROOT / f"project/settings/{name}/.env").read_text().splitlines()
    assert f"COMPOSE_PROJECT_NAME=project-{name}" in lines


def test_every_compose_file_gives_a_stop_the_time_that_it_may_take() -> None:
    supervisor = configparser.ConfigParser(inline_comment_prefixes=(";",))
    supervisor.read(ROOT / "dockerable/supervisor-app.conf")
    programs = {name: part for name, part in supervisor.items() if name.startswith("program:")}
    # One after the other, since each has a priority of its own.
    assert len({part["priority"] for part in programs.values()}) == len(programs) == 3
    waits = {name: float(part["stopwaitsecs"]) for name, part in programs.items()}
    seconds = sum(waits.values())
    nginx = re.search(r"worker_shutdown_timeout (\d+)s;", (ROOT / "dockerable/nginx/nginx.conf").read_text())
    assert nginx
    assert int(nginx[1]) < waits["program:nginx"]
    # Then init ends what is left and writes what the log still holds.
    seconds += init.TERM_PATIENCE + init.KILL_PATIENCE + relay.AT_END
    services = [
        (file.relative_to(ROOT), service)
        for file in ROOT.glob("project/settings/*/docker-compose*.yml")
        for service in yaml.safe_load(file.read_text())["services"].values()
        if "extends" not in service
    ]
    assert len(services) >= 2
    for file, service in services:
        assert seconds < int(service["stop_grace_period"].removesuffix("s")), file


def test_both_ways_to_build_hand_on_every_argument_of_the_build() -> None:
    house = ROOT / "dockerable"
    wanted = set(re.findall(r"^ARG (\w+)", (house / "Dockerfile").read_text(), re.M))
    file = yaml.safe_load((house / "docker-compose-build-only.yml").read_text())
    assert set(file["services"]["web"]["build"]["args"]) == wanted
    assert set(re.findall(r"--build-arg (\w+)", (house / "ctl").read_text())) == wanted
