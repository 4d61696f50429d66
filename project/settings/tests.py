"""Tests of the keys that environments set, and of what they become."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock, skipUnless

from django.db import connection
from django.test import SimpleTestCase, TestCase

from dockerable.settings import SettingsError
from project.settings.schema import PLACEHOLDER, Settings

HERE = Path(__file__).parent


def as_django(**values: str) -> dict[str, Any]:
    return Settings.model_validate({"secret_key": "x", **values}).as_django()


class SchemaTest(SimpleTestCase):
    def test_hosts_come_from_the_server_names(self) -> None:
        hosts = as_django(nginx_server_name="example.com *.example.org [::1]")["ALLOWED_HOSTS"]
        self.assertEqual(hosts, ["example.com", ".example.org", "[::1]"])

    def test_hosts_of_their_own_go_first(self) -> None:
        hosts = as_django(nginx_server_name="a.example", allowed_hosts="b.example c.example")
        self.assertEqual(hosts["ALLOWED_HOSTS"], ["b.example", "c.example"])

    def test_no_host_is_allowed_by_default(self) -> None:
        self.assertEqual(as_django()["ALLOWED_HOSTS"], [])

    def test_cookies_are_secure_under_tls_only(self) -> None:
        for use_ssl in ("true", "false"):
            django = as_django(use_ssl=use_ssl)
            self.assertIs(django["SESSION_COOKIE_SECURE"], use_ssl == "true")
            self.assertIs(django["CSRF_COOKIE_SECURE"], use_ssl == "true")

    def test_the_database_is_sqlite_unless_told_otherwise(self) -> None:
        for url in ({}, {"database_url": ""}, {"database_url": "sqlite:////data/other.sqlite3"}):
            database = as_django(**url)["DATABASES"]["default"]
            self.assertEqual(database["ENGINE"], "django.db.backends.sqlite3")
            self.assertEqual(database["OPTIONS"]["transaction_mode"], "IMMEDIATE")
            self.assertIsNone(database["CONN_MAX_AGE"])

    def test_a_database_address_is_understood(self) -> None:
        url = "postgres://ada:p%40ss@db:5433/shop?connect_timeout=2"
        database = as_django(database_url=url)["DATABASES"]["default"]
        self.assertEqual(database["ENGINE"], "django.db.backends.postgresql")
        self.assertEqual((database["HOST"], database["PORT"]), ("db", 5433))
        self.assertEqual((database["NAME"], database["PASSWORD"]), ("shop", "p@ss"))
        self.assertEqual(int(database["OPTIONS"]["connect_timeout"]), 2)

    def test_the_port_says_how_mail_is_encrypted(self) -> None:
        for port, tls, ssl in (("25", False, False), ("465", False, True), ("587", True, False)):
            django = as_django(email_host="mail.example", email_port=port)
            self.assertEqual((django["EMAIL_USE_TLS"], django["EMAIL_USE_SSL"]), (tls, ssl))
            self.assertIn("smtp", django["EMAIL_BACKEND"])

    def test_mail_is_printed_where_there_is_no_mail_server(self) -> None:
        self.assertIn("console", as_django()["EMAIL_BACKEND"])


class RefusalTest(SimpleTestCase):
    def setUp(self) -> None:
        self.enterContext(mock.patch.dict(os.environ, clear=True))
        self.enterContext(mock.patch("dockerable.settings.RUN_SECRETS", Path("/nowhere")))
        self.enterContext(mock.patch("sys.stderr"))
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def assert_refused(self, words: str, folder: Path | None = None, **secrets: str) -> None:
        if not folder:
            (self.folder / "secrets.json").write_text(json.dumps(secrets))
        with self.assertRaises(SettingsError) as caught:
            Settings.load(folder or self.folder)
        self.assertEqual(caught.exception.exit_status, 78)
        (problem,) = caught.exception.problems
        self.assertIn(words, problem)
        self.assertNotIn("marker", problem)

    def test_the_placeholder_is_refused_with_the_command_for_a_real_key(self) -> None:
        self.assert_refused("head -c 48 /dev/urandom | base64", SECRET_KEY=PLACEHOLDER)

    @skipUnless((HERE / "example").is_dir(), "an image has no environment but local")
    def test_the_example_is_refused_as_it_is(self) -> None:
        self.assert_refused("is the placeholder", folder=HERE / "example")

    def test_a_bad_database_address_is_refused_without_showing_it(self) -> None:
        for url in ("marker", "marker://x/y", "postgres://u:marker@h:port/n", "postgres://marker", "'marker'"):
            self.assert_refused("example: postgres://", SECRET_KEY="x", DATABASE_URL=url)
        self.assert_refused("must be percent-encoded as %23", SECRET_KEY="x", DATABASE_URL="postgres://u:a#marker@h/n")


class SQLiteTest(TestCase):
    @skipUnless(connection.vendor == "sqlite", "another database is in use")
    def test_the_options_reach_each_connection(self) -> None:
        with connection.cursor() as cursor:
            for pragma, value in (("synchronous", 1), ("busy_timeout", 20_000)):
                cursor.execute(f"PRAGMA {pragma}")
                self.assertEqual(cursor.fetchone(), (value,), pragma)
