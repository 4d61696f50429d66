"""The model of uploads."""

from django.db import models


class Document(models.Model):
    """A file with a title."""

    title = models.CharField(max_length=200)
    file = models.FileField(upload_to="documents/")
    uploaded = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Documents are listed newest first."""

        ordering = ["-uploaded"]

    def __str__(self) -> str:
        """Return the document's name in the admin."""
        return self.title
