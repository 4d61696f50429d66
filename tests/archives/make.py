"""Make an archive of what an installation has on its host: tests/.venv/bin/python -m tests.archives.make VERSION

Run as root with the image of that version in TEST_IMAGE, once a version. tests/host/test_archives.py starts every later
image from it. tests/archives/VERSION.tar.gz has

  prod/       the environment's folder, made as README.md says, with certbot's files
  data/       what the data volume held
  crontab     the line of the host's cron
  facts.json  what must still be so, the object that `make_facts` returns

with its owners and modes; every file has the same time. The certificate comes from an authority of the tests that
exists no more. It is valid for ten years, and certbot renews it after two thirds of them: from then on the archive
is of no use. The keys, the password and the session in it were made for it and are used nowhere else.
"""

import datetime
import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.acme import DIRECTORY, NAMES, Pebble
from tests.support.compose import find_compose
from tests.support.docker import LABEL, ROOT, run
from tests.support.http import PASSWORD, USER, make_superuser
from tests.support.installation import Installation
from tests.support.tree import base_image, copy_tree
from tests.support.wait import wait_until

YEARS = datetime.timedelta(days=3652)
MTIME = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CRONTAB = "17 3 * * * docker exec CONTAINER certbot renew\n"
# README.md, "Environments" and "HTTPS".
NEW_ENVIRONMENT = """
cp -r project/settings/example project/settings/prod
sed -i '/example.com/!s/example/prod/g' project/settings/prod/.env project/settings/prod/docker-compose*.yml
chmod o-rwx project/settings/prod/secrets.json
chmod g+w,o-rwx project/settings/prod/letsencrypt
"""
MORE_ROWS = """
from django.contrib.auth.models import Group, Permission
from project.accounts.models import User
group = Group.objects.create(name="editors")
group.permissions.set(Permission.objects.filter(content_type__app_label="start"))
User.objects.create_user("grace", "grace@example.com", first_name="Gr\u00e1ce", is_staff=True).groups.add(group)
"""
TABLES = (
    *("accounts_user", "accounts_user_groups", "auth_group", "auth_group_permissions"),
    *("django_admin_log", "django_migrations", "start_document"),
)
TITLE, UPLOAD = "Z\u00fcrich \u2013 notes", b"What an earlier version took.\n" + bytes(range(256))
PACK = (
    *("tar", "-cf", "-", "-I", "gzip -9n", "--sort=name", "--numeric-owner", "--format=gnu"),
    *(f"--mtime=@{int(MTIME.timestamp())}", "-C", "/from", "crontab", "data", "facts.json", "prod"),
)


def make_environment(tree: Path, authority: bytes) -> Path:
    """Make the environment `prod` in a copy of the repository; its folder."""
    run("sh", "-ec", NEW_ENVIRONMENT, cwd=tree)
    folder = tree / "project/settings/prod"
    (folder / "authority.pem").write_bytes(authority)

    def edit(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text()
        assert old in text, f"{name} has no {old!r}"
        (folder / name).write_text(text.replace(old, new))

    edit("secrets.json", "change-me", secrets.token_urlsafe(48))
    edit("docker-compose.yml", "www.example.com", " ".join(NAMES))
    acme = f"ACME_SERVER: {DIRECTORY}\n      ACME_CA_BUNDLE: /app/project/settings/prod/authority.pem"
    edit("docker-compose-ssl.yml", 'USE_SSL: "ON"', f'USE_SSL: "ON"\n      {acme}')
    with (folder / ".env").open("a") as file:
        file.write("EMAIL_ADDRESS=admin@example.test\n")
    with (folder / "settings.py").open("a") as file:
        file.write(f"\n# Ten years, in seconds.\nSESSION_COOKIE_AGE = {int(YEARS.total_seconds())}\n")
    return folder


def make_facts(site: Installation) -> dict[str, Any]:
    """Use a site that has just been started; what must be so whenever it is started again.

    names     the site's names
    serial    the certificate's serial number, hexadecimal
    user, password   the superuser's
    cookie    the header Cookie of the superuser, logged in
    uploads   path of each upload to the SHA-256 of its content, hexadecimal
    tables    name of each table that matters to its rows, each column to value
    """
    serial = f"{site.real().serial_number:x}"
    make_superuser(site)
    site.exec("manage", "shell", "-c", MORE_ROWS)
    browser = site.browser()
    assert browser.log_in().status_code == 302
    sent = browser.submit("/admin/start/document/add/", {"title": TITLE}, files={"file": ("notes.bin", UPLOAD)})
    assert sent.status_code == 302, sent.text
    tables = site.rows(TABLES)
    assert all(tables.values()), tables
    wait_until(lambda: site.status()["state"] == "ok" and not site.status()["next_attempt"])
    return {
        "names": site.names,
        "serial": serial,
        "user": USER,
        "password": PASSWORD,
        "cookie": f"sessionid={browser.client.cookies['sessionid']}",
        "uploads": {f"/media/{row['file']}": hashlib.sha256(UPLOAD).hexdigest() for row in tables["start_document"]},
        "tables": tables,
    }


def pack(site: Installation, facts: dict[str, Any], place: Path) -> bytes:
    """The archive of a site that has been stopped; `place` is an empty folder."""
    (place / "crontab").write_text(CRONTAB)
    (place / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    for file in place.iterdir():
        file.chmod(0o644)
    mounts = ("-v", f"{place}:/from", "-v", f"{site.folder}:/from/prod:ro", "-v", f"{site.volume}:/from/data:ro")
    command = ("docker", "run", "--rm", "--label", LABEL, *mounts, base_image(), *PACK)
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pebble = Pebble(Path(folder, "pebble"), validity=int(YEARS.total_seconds()))
        site = None
        try:
            environment = make_environment(copy_tree(Path(folder, "tree")), pebble.start().bundle.read_bytes())
            network = {
                "services": {"web": {"networks": {"acme": {"aliases": NAMES}}}},
                "networks": {"acme": {"external": True, "name": pebble.network}},
            }
            site = Installation(find_compose("1.29"), environment, NAMES, network)
            facts = make_facts(site.up())
            assert site.stop() == 0, site.logs()
            assert not site.trouble(), site.trouble()
            place = Path(folder, "place")
            place.mkdir()
            target.write_bytes(pack(site, facts, place))
        finally:
            if site:
                site.remove()
            pebble.remove()


if __name__ == "__main__":
    if len(sys.argv) != 2 or os.getuid() != 0:
        sys.exit("usage, as root: tests/.venv/bin/python -m tests.archives.make VERSION")
    main(ROOT / f"tests/archives/{sys.argv[1]}.tar.gz")
