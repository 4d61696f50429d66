"""The id that nginx gave the request which this thread or task serves; empty outside of one.

`application/wsgi.py` sets it. It is not reset: it stands until the next request of the same thread, so
that it covers a streaming answer and its close() too, and costs no wrapper around the answer.
"""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
