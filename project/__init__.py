"""The example Django project: what the image runs until your project takes its place."""
