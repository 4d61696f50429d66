"""Runs inside a container of the image: checks and renders one environment a line, by the image's own programs.

Listens on the Unix socket /exchange/socket. Takes JSON objects of variables; gives for each one: the `status`,
`stdout` and `stderr` of `check_environment`, and where it gave assignments, what cmd.sh's own step made of
them: `rendered` (its exit status), `said` and `files`.
"""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, "/app")

from dockerable.container import check_environment, checks

INHERITED = dict(os.environ)
SCRIPT = Path("/tmp/render.sh")
RENDERED = Path("/run/nginx")
# All of it but the call of main.
FUNCTIONS, _, CALL = Path("/app/dockerable/cmd.sh").read_text().rstrip().rpartition("\n")
assert CALL == 'main "$@"', CALL


def check() -> dict:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = check_environment.main([])
    return {"status": status, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()}


def render(assignments: str) -> dict:
    SCRIPT.write_text(f"{FUNCTIONS}\n{assignments}\nrender_nginx_conf\n", errors="surrogateescape")
    done = subprocess.run(["sh", SCRIPT], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    files = {file.name: file.read_text(errors="replace") for file in RENDERED.glob("*.conf")}
    return {"rendered": done.returncode, "said": done.stderr + done.stdout, "files": files}


# It loads Django, only to have more to say beside an error.
checks.check_settings = lambda *_: None
listener = socket.socket(socket.AF_UNIX)
listener.bind("/exchange/socket")
Path("/exchange/socket").chmod(0o777)
listener.listen()
with listener.accept()[0].makefile("rw") as stream:
    for line in stream:
        os.environ.clear()
        os.environ.update({**INHERITED, **json.loads(line)})
        answer = check()
        if answer["stdout"]:
            answer |= render(answer["stdout"])
        print(json.dumps(answer), file=stream, flush=True)
