"""What runs in the container by the system's Python: standard library only, importable by every other room."""
