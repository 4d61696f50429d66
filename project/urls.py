"""URLs of the project."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import path

from project.start.views import start

urlpatterns = [
    path("", start, name="start"),
    path("admin/", admin.site.urls),
    # In the container nginx serves uploads. Without it, under runserver, this does; it has no effect without DEBUG.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
