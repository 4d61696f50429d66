"""Tests of the start page, of the error pages and of uploads."""

import sys
import tempfile
from io import StringIO
from pathlib import Path
from unittest import mock

import django
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import Http404
from django.test import Client, TestCase, override_settings
from django.urls import reverse

from dockerable.ops.request_id import request_id
from project.accounts.models import User
from project.start.models import Document
from project.testing import uncollected_static

# RFC 9110's words for each, and what a view raises to get it.
ERRORS = (
    (400, "Bad Request", BadRequest),
    (403, "Forbidden", PermissionDenied),
    (404, "Not Found", Http404),
    (500, "Internal Server Error", RuntimeError),
)


class PageTest(TestCase):
    def set_request_id(self, identity: str) -> None:
        """Do what dockerable/application/wsgi.py does behind nginx."""
        self.addCleanup(request_id.reset, request_id.set(identity))

    def lose_the_database(self) -> None:
        """Let every connection to it fail from now on."""
        self.enterContext(
            mock.patch.object(BaseDatabaseWrapper, "ensure_connection", side_effect=OperationalError("no route"))
        )


@uncollected_static
class StartPageTest(PageTest):
    def test_it_shows_that_the_stack_is_up(self) -> None:
        answer = self.client.get("/")
        self.assertContains(answer, "It works")
        self.assertContains(answer, f'href="{reverse("admin:start_document_add")}"')

    def test_it_says_who_serves_it(self) -> None:
        for uwsgi, server in ((None, "own server"), (object(), "nginx and uWSGI")):
            modules = {"uwsgi": uwsgi} if uwsgi else {}
            with mock.patch.dict(sys.modules, modules):
                self.assertContains(self.client.get("/"), server)

    def test_its_style_sheet_exists(self) -> None:
        self.assertContains(self.client.get("/"), f'href="{settings.STATIC_URL}start/start.css"')
        self.assertIsNotNone(finders.find("start/start.css"))

    @override_settings(START_PAGE_DETAILS=True)
    def test_versions_are_shown_where_the_environment_allows_it(self) -> None:
        self.assertContains(self.client.get("/"), f"<dd>{django.get_version()}</dd>")

    @override_settings(START_PAGE_DETAILS=False, SETTINGS_MODULE="secretive.settings")
    def test_versions_are_hidden_elsewhere(self) -> None:
        answer = self.client.get("/")
        self.assertNotContains(answer, django.get_version())
        self.assertNotContains(answer, "secretive")

    @override_settings(START_PAGE_DETAILS=True, SETTINGS_MODULE="shop.<b>.settings")
    def test_a_long_name_of_settings_may_be_wrapped_after_its_dots(self) -> None:
        self.assertContains(self.client.get("/"), "<dd>shop.<wbr>&lt;b&gt;.<wbr>settings</dd>")

    def test_a_database_that_does_not_answer_gives_503(self) -> None:
        self.lose_the_database()
        with self.assertLogs("django.request"), self.assertLogs("project.start.views") as log:
            answer = self.client.get("/")
        self.assertContains(answer, "not reachable", status_code=503)
        self.assertContains(answer, "The database does not answer. The log says why.", status_code=503)
        self.assertEqual(log.output, ["ERROR:project.start.views:The database does not answer: no route"])
        # What belongs to a site that works, and links that would answer 500.
        for missing in ("Put your own project", "dockerable/ctl", "/admin/"):
            self.assertNotContains(answer, missing, status_code=503)

    def test_behind_nginx_it_names_the_command_that_shows_why_the_database_does_not_answer(self) -> None:
        self.lose_the_database()
        self.set_request_id("0123<b>")
        with self.assertLogs("django.request"), self.assertLogs("project.start.views"):
            answer = self.client.get("/")
        command = "dockerable/ctl logs ENV --request 0123&lt;b&gt;"
        self.assertContains(answer, f"<code>{command}</code>", status_code=503)

    def test_each_security_header_appears_once(self) -> None:
        headers = self.client.get("/").headers
        self.assertEqual(headers["X-Frame-Options"], "DENY")
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(headers["Referrer-Policy"], "same-origin")

    def test_it_is_never_cached(self) -> None:
        self.assertIn("no-store", self.client.get("/").headers["Cache-Control"])

    def test_nothing_can_be_posted_to_it(self) -> None:
        with self.assertLogs("django.request"):
            self.assertEqual(self.client.post("/").status_code, 405)


class ErrorPageTest(PageTest):
    def setUp(self) -> None:
        self.client.raise_request_exception = False

    def page(self, status: int, error: type[Exception]) -> str:
        """Return the page for this exception in a view."""
        raised = mock.patch("project.start.views.database_answers", side_effect=error)
        with raised, self.assertLogs("django.request"):
            answer = self.client.get("/")
        self.assertEqual((answer.status_code, answer["Content-Type"]), (status, "text/html; charset=utf-8"))
        return answer.content.decode()

    def test_each_has_its_status_a_way_home_and_the_id_of_the_request(self) -> None:
        self.set_request_id("0123456789abcdef")
        for status, title, error in ERRORS:
            with self.subTest(status=status):
                page = self.page(status, error)
                self.assertIn(f"<title>{title}</title>", page)
                self.assertIn(f"<h1>{title}</h1>", page)
                self.assertIn('<a href="/">Start page</a>', page)
                self.assertIn(f"<small>{status}, request <code>0123456789abcdef</code></small>", page)

    def test_an_id_is_escaped(self) -> None:
        self.set_request_id("<b>&")
        for status, _, error in ERRORS:
            with self.subTest(status=status):
                self.assertIn("<code>&lt;b&gt;&amp;</code>", self.page(status, error))

    def test_without_nginx_no_request_is_named(self) -> None:
        for status, _, error in ERRORS:
            with self.subTest(status=status):
                self.assertIn(f"<small>{status}</small>", self.page(status, error))

    def test_a_form_without_its_token_gets_a_page_that_says_what_to_do(self) -> None:
        with self.assertLogs("django.security.csrf"):
            answer = Client(enforce_csrf_checks=True).post(reverse("admin:login"))
        self.assertContains(answer, "Allow cookies for this site", status_code=403)
        self.assertContains(answer, '<a href="/">Start page</a>', status_code=403)

    def test_they_come_while_the_database_is_down(self) -> None:
        self.set_request_id("0123456789abcdef")
        # With it the session is looked up.
        self.client.cookies[settings.SESSION_COOKIE_NAME] = "x" * 32
        self.lose_the_database()
        for status, path in ((404, "/nothing"), (500, reverse("admin:index"))):
            with self.subTest(status=status), self.assertLogs("django.request"):
                answer = self.client.get(path)
                self.assertContains(answer, "request <code>0123456789abcdef</code>", status_code=status)


@uncollected_static
class UploadTest(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(dir=settings.DATA_DIR)
        self.addCleanup(folder.cleanup)
        self.media = Path(folder.name)
        self.media.chmod(0o2770)
        self.enterContext(override_settings(MEDIA_ROOT=self.media))
        self.client.force_login(User.objects.create_superuser("ada"))

    def upload(self, size: int) -> Path:
        file = SimpleUploadedFile("note.txt", b"x" * size)
        answer = self.client.post(reverse("admin:start_document_add"), {"title": "Note", "file": file})
        self.assertRedirects(answer, reverse("admin:start_document_changelist"))
        document = Document.objects.get()
        self.assertEqual(document.file.url, "/media/documents/note.txt")
        return Path(document.file.path)

    def test_an_upload_is_kept_for_owner_and_group(self) -> None:
        # Small ones are held in memory, others in a temporary file: two ways to the same end.
        for size in (1, settings.FILE_UPLOAD_MAX_MEMORY_SIZE + 1):
            with self.subTest(size=size):
                path = self.upload(size)
                self.assertEqual(path.stat().st_size, size)
                self.assertEqual(f"{path.stat().st_mode & 0o7777:o}", "660")
                self.assertEqual(f"{path.parent.stat().st_mode & 0o7777:o}", "2770")
                path.unlink()
                Document.objects.all().delete()

    def test_a_document_is_named_by_its_title(self) -> None:
        self.assertEqual(str(Document(title="Note")), "Note")


class MigrationTest(TestCase):
    def test_no_migration_is_missing(self) -> None:
        call_command("makemigrations", check_changes=True, dry_run=True, stdout=StringIO())
