"""Addresses of the project."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import path

from project.start.views import start

urlpatterns = [
    path("", start, name="start"),
    path("admin/", admin.site.urls),
    # nginx serves uploads; this one has an effect with DEBUG only, under runserver.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
