"""The project's start, and the wrapper around its WSGI application. Uses /opt/app's Python, which has Django."""
