"""What users can upload."""

from django.db import models


class Document(models.Model):
    """A file with a title."""

    title = models.CharField(max_length=200)
    file = models.FileField(upload_to="documents/")
    uploaded = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Newest first."""

        ordering = ["-uploaded"]

    def __str__(self) -> str:
        """Name it in the admin."""
        return self.title
