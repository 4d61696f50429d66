"""supervisord, and rules for when it gives programs up. Uses /opt/dockerable's Python, which has supervisor."""
