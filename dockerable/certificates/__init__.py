"""Stores, orders and serves the site's certificate. Uses /opt/dockerable's Python, which has certbot."""
