"""Warns of variables that look like misspelt ones of the container, and not of those that mean something to others."""

import difflib
import re
from collections.abc import Mapping

from dockerable.container.orchestrator import injected
from dockerable.container.report import Report
from dockerable.container.variables import CONTAINER

# Programs, libraries and clouds that read variables with such names: AWS_CA_BUNDLE is no misspelt ACME_CA_BUNDLE.
OF_OTHERS = re.compile(
    "(AWS|AZURE|CELERY|CLOUDFLARE|CURL|DOCKER|GCP|GIT|GOOGLE|GUNICORN|KUBERNETES|MYSQL|NODE|OTEL|PG|PIP|POSTGRES"
    "|PYTHON|RABBITMQ|REDIS|REQUESTS|S3|SENTRY|UV)_"
)
# How similar a name must be to one of ours: 1 is the same, 0 has no letter in common.
SIMILAR = 0.8


def warn_of_unknown(environ: Mapping[str, str], report: Report) -> None:
    """Add a warning for each name that is nearly one of the container's, or begins as nginx's do."""
    for name in sorted(set(environ) - set(CONTAINER)):
        # uwsgi_options.py checks UWSGI_.
        if name.startswith("UWSGI_") or OF_OTHERS.match(name) or injected(name, environ[name]):
            continue
        nearest = difflib.get_close_matches(name, CONTAINER, 1, SIMILAR)
        if nearest and not adds_words(name, nearest[0]):
            report.warnings.append(f"{name} is not a variable of this image: did you mean {nearest[0]}?")
        elif name.startswith("NGINX_"):
            report.warnings.append(f"{name} is not a variable of this image and has no effect")


def adds_words(name: str, known: str) -> bool:
    """Whether a name is a known one with words before or after it: DB_USE_SSL is a project's own, not USE_SSL."""
    return name.startswith(f"{known}_") or name.endswith(f"_{known}")
