"""supervisord with its own policy. Runs by /opt/dockerable's Python, which has supervisor."""
