"""The WSGI application. DJANGO_SETTINGS_MODULE must be set before this module is imported."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
