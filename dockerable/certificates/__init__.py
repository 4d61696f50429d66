"""The site's certificate: what is stored, ordered and served. Runs by /opt/dockerable's Python, which has certbot."""
