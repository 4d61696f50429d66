"""What dockerable/SECURITY.md says of an attacker in the application: what such code can do, and what it cannot.

`docker exec` runs a command as the application's uid in its container, which is what such code could do.
"""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker import LABEL, ROOT, docker, run
from tests.support.environments import MODULE, settings_folder
from tests.support.stack import Stack

SECURITY = (ROOT / "dockerable/SECURITY.md").read_text()
KEY = secrets.token_urlsafe(48)
CLOSED = ("/run", "/tmp", "/dev/shm")
# Starts a copy of `true` in each folder, by itself and by the dynamic linker; prints the two statuses.
DROP = """
for folder in "$@"; do
    cp /usr/bin/true "$folder/dropped"
    "$folder/dropped"; first=$?
    /lib64/ld-linux-*.so.2 "$folder/dropped"; echo "$folder $first $?"
done 2>/dev/null
"""
FROM_MEMORY = """
import os
program = os.memfd_create("dropped")
os.write(program, open("/usr/bin/true", "rb").read())
os.execv(f"/proc/self/fd/{program}", ["dropped"])
"""
# What root or another user could do; each is refused with EPERM (1).
OTHERS = """
import os
steps = [lambda: os.setuid(0), lambda: os.setgid(1), lambda: os.setgroups([0, 1]), lambda: os.chown("/data", 0, -1),
         lambda: os.mknod("/data/device", 0o60600, os.makedev(254, 0)), lambda: os.chroot("/data")]
for step in steps:
    try:
        step()
    except OSError as reason:
        print(reason.errno)
"""


@pytest.fixture(scope="module")
def site_stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    place = tmp_path_factory.mktemp("environment") / "prod"
    # The volume of no name is removed with the container.
    mounts = [*settings_folder(place, {"secrets.json": json.dumps({"SECRET_KEY": KEY})}), "/etc/letsencrypt"]
    stack = Stack({"DJANGO_SETTINGS_MODULE": MODULE}, mounts=mounts)
    stack.allowed = ["secrets.json is readable by everyone"]
    return stack


def drop(site: Stack, *folders: str) -> dict[str, str]:
    """The two statuses of what was dropped in each folder, by its name."""
    lines = site.exec("sh", "-c", DROP, "sh", *folders).splitlines()
    return {folder: statuses for folder, _, statuses in (line.partition(" ") for line in lines)}


def test_what_is_written_to_tmpfs_does_not_start(site: Stack) -> None:
    assert drop(site, *CLOSED) == dict.fromkeys(CLOSED, "126 127")
    mounted = dict(re.findall(r"^\S+ (\S+) \S+ (\S+)", site.exec("cat", "/proc/mounts"), re.MULTILINE))
    for folder in CLOSED:
        assert {"noexec", "nosuid", "nodev"} < set(mounted[folder].split(",")), folder


def test_what_still_starts_is_said(site: Stack) -> None:
    folders = ("/data", "/etc/letsencrypt")
    assert drop(site, *folders) == dict.fromkeys(folders, "0 0")
    site.exec("python3", "-c", FROM_MEMORY)
    for script, program in (("print('ran')", "python3"), ("echo ran", "sh")):
        site.exec("sh", "-c", f'echo "{script}" >/tmp/script')
        assert site.exec(program, "/tmp/script") == "ran"
    for words in (*folders, "memfd_create", "Python or sh"):
        assert words in SECURITY.partition("## What still starts")[2].partition("\n\n")[2].partition("\n\n")[0]


def test_nothing_else_can_be_written(site: Stack) -> None:
    """The list is what find gives; the kernel's own files are left out."""
    look = "find / ( -path /proc -o -path /sys -o -path /dev ) -prune -o -type d -writable -print -prune"
    folders = site.exec(*look.split(), check=False).split()
    assert sorted(folders) == ["/data", "/etc/letsencrypt", "/run", "/tmp"]
    for place in ("/app/project/settings/prod/settings.py", "/app/manage.py", "/etc/passwd"):
        refused = site.exec("sh", "-c", f"{{ echo >>{place}; }} 2>&1 || :")
        assert "Read-only file system" in refused or "Permission denied" in refused, refused


def test_nobody_becomes_anybody_else(site: Stack) -> None:
    assert site.exec("python3", "-c", OTHERS).split() == ["1"] * 6
    assert site.exec("id") == "uid=10001(app) gid=0(root) groups=0(root)"
    assert site.exec("sh", "-c", "ls /var/run/docker.sock /run/docker.sock 2>/dev/null || :") == ""


def test_secrets_and_data_are_within_reach(site: Stack) -> None:
    assert KEY in site.exec("cat", "/run/snapshot/current/project/settings/prod/secrets.json")
    assert "NGINX_SERVER_NAME=" in site.exec("sh", "-c", "tr '\\0' '\\n' </proc/1/environ")
    site.exec("sh", "-c", "test -r /data/db.sqlite3 && test -w /data/db.sqlite3 && test -w /etc/letsencrypt")


def test_other_programs_and_any_tag_of_the_log_are_within_reach(site: Stack) -> None:
    for tag in ("nginx.access", "uwsgi", "supervisor"):
        site.exec("sh", "-c", f"echo forged-{tag} >/run/log/{tag}")
        assert site.says(f"{tag}: forged-{tag}")
    site.exec("sh", "-c", "kill -0 1 $(supervisorctl pid nginx) $(supervisorctl pid application)")


def test_a_folder_of_the_host_is_closed_because_setgid_would_give_the_group_root(site: Stack) -> None:
    site.exec("sh", "-c", "cp /usr/bin/true /etc/letsencrypt/program && chmod 2755 /etc/letsencrypt/program")
    assert site.exec("stat", "-c", "%a %g", "/etc/letsencrypt/program") == "2755 0"


def test_after_a_restart_only_the_volumes_hold_what_was_written(site: Stack) -> None:
    places = ("/run", "/tmp", "/dev/shm", "/data", "/etc/letsencrypt")
    site.exec("sh", "-c", 'for folder in "$@"; do echo >$folder/left; done', "sh", *places)
    docker("restart", "-t", "0", site.name)
    left = site.exec("sh", "-c", 'for folder in "$@"; do ls $folder/left; done 2>/dev/null; :', "sh", *places)
    assert left.split() == ["/data/left", "/etc/letsencrypt/left"]
    site.wait_healthy()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host, mounted by the page's own line of fstab."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    found = re.search(r"^echo '(/srv/prod-data .*)' \|", SECURITY, re.MULTILINE)
    assert found
    place, table = for_group(tmp_path / "data"), tmp_path / "fstab"
    table.write_text(found[1].replace("/srv/prod-data", str(place)) + "\n")
    run("mount", "-T", table, place)
    yield place
    run("umount", place)


def for_group(place: Path) -> Path:
    """Make a folder as the page says."""
    run("install", "-d", "-m", "2770", "-g", "0", place)
    return place


@pytest.mark.slow
def test_with_a_folder_mounted_noexec_the_site_serves_and_nothing_starts_there(
    folder: Path, new_stack: Callable[[Stack], Stack], site: Stack, tmp_path: Path
) -> None:
    # The data that are there move, as the page says.
    command = re.search(r"^docker run --rm -u 0 (.*)$", SECURITY, re.MULTILINE)
    assert command
    words = command[1].replace("/srv/prod-data", str(folder)).replace("project-prod_data", site.volume)
    docker("run", "--rm", "--label", LABEL, "-u", "0", *words.replace("dockerable:latest", site.image).split())
    # A mount of its own may be at media.
    mounts = [f"{folder}:/data", f"{for_group(tmp_path / 'media')}:/data/media"]
    stack = new_stack(Stack(volume="none", mounts=mounts)).up()
    assert drop(stack, "/data") == {"/data": "126 127"}
    assert "noexec" in stack.exec("grep", " /data ", "/proc/mounts")
    assert stack.get().status_code == 200
    stack.exec("manage", "createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.com")
    stack.exec("sh", "-c", "echo kept >/data/media/note.txt")
    assert stack.get("/media/note.txt").text == "kept\n"
