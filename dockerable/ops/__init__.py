"""What a project may import: its LOGGING and the request's id. The image's own application/ uses both, too."""
