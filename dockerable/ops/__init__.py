"""What a project may import from the image: its log format and the request id.

application/ uses both too, for exceptions that the project does not catch.
"""
