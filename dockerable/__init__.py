"""How a Django project runs as one production image."""
