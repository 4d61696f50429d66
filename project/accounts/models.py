"""The user model."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A user of our own from the first migration on, since a later change of model is hard."""
