"""The project's start, and what wraps its WSGI application. Runs by /opt/app's Python, which has Django."""
