"""Tests of the user model and the admin's login."""

from django.contrib.auth import get_user_model
from django.test import Client, TestCase
from django.urls import reverse

from project.accounts.models import User
from project.testing import uncollected_static


@uncollected_static
class AccountsTest(TestCase):
    def test_the_user_model_is_ours(self) -> None:
        self.assertIs(get_user_model(), User)

    def test_the_admin_asks_for_a_login(self) -> None:
        page = reverse("admin:index")
        self.assertRedirects(self.client.get(page), f"{reverse('admin:login')}?next={page}")

    def test_a_staff_user_logs_in_through_the_form(self) -> None:
        User.objects.create_superuser("ada", password="correct horse")
        client = Client(enforce_csrf_checks=True)
        login = reverse("admin:login")
        token = client.get(login).context["csrf_token"]
        answer = client.post(
            login,
            {"username": "ada", "password": "correct horse", "csrfmiddlewaretoken": str(token)},
            headers={"origin": "http://testserver"},
        )
        self.assertEqual(answer.status_code, 302)
        index = client.get(reverse("admin:index"))
        for app in ("accounts/user", "start/document"):
            self.assertContains(index, f'href="/admin/{app}/"')

    def test_a_wrong_password_is_refused(self) -> None:
        User.objects.create_superuser("ada", password="correct horse")
        answer = self.client.post(reverse("admin:login"), {"username": "ada", "password": "wrong horse"})
        self.assertContains(answer, "Please enter the correct username and password")
