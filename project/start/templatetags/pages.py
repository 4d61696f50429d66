"""What the pages of this project need beside Django's own tags: {% load pages %}."""

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString

from dockerable.ops.request_id import request_id as id_of_request

register = template.Library()


@register.simple_tag
def request_id() -> str:
    """Return the id that nginx gave the request, as in X-Request-ID and the log; empty without nginx."""
    return id_of_request.get()


@register.filter
def wrap_at_dots(text: str) -> SafeString:
    """Return `text` escaped, with a place after each dot where a browser may begin a new line."""
    return SafeString(escape(text).replace(".", ".<wbr>"))
