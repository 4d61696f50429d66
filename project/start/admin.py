"""Documents in the admin."""

from django.contrib import admin

from project.start.models import Document


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    """The list of documents shows their files."""

    list_display = ["title", "file", "uploaded"]
