"""The start page, and documents as an example of uploads."""
