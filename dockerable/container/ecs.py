"""The version of the Elastic Common Schema whose field names JSON records have. nginx/logging.conf repeats it."""

VERSION = "8.11"
