"""Programs that the system's Python runs in the container: standard library only, importable by all other packages."""
