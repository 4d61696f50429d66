"""The id, given by nginx, of the request that this thread or task serves; empty outside of a request.

`application/wsgi.py` sets it and never resets it: so the id also holds while a streaming answer is sent and closed,
until the thread's next request, without a wrapper around the answer.
"""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
