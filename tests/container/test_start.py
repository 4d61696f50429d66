"""A start: the first answers and their time, the processes that run then, and a stop during the start."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.support.docker import IMAGE, LABEL, docker, run, unique
from tests.support.environments import LOCAL, MODULE, app_with_migration, settings_folder
from tests.support.stack import Stack
from tests.support.wait import wait_until

# Settings whose import takes until the test makes a file.
HELD = f"""
import sys, time
from pathlib import Path
print("held up", file=sys.stderr, flush=True)
while not Path("/data/go").exists():
    time.sleep(0.02)
{LOCAL}"""
PROD = {"DJANGO_SETTINGS_MODULE": MODULE}
SERVICE = {"UWSGI_PORT": "tcp://10.43.0.7:8000", "UWSGI_SERVICE_HOST": "10.43.0.7", "UWSGI_MAX_REQUESTS": ""}
NewStack = Callable[[Stack], Stack]


def began(stack: Stack) -> float:
    """When the engine started the container, in seconds since the epoch."""
    whole, _, fraction = stack.state()["StartedAt"].removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def status(stack: Stack) -> int:
    """The status of the start page; 0 where nobody answers."""
    try:
        return stack.get().status_code
    except httpx.TransportError:
        return 0


def states(stack: Stack, program: str) -> list[str]:
    """The states of the processes of that name; the engine does not list zombies."""
    stats = stack.exec("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null", check=False).splitlines()
    return [line.rpartition(") ")[2][0] for line in stats if f"({program})" in line]


def hold(new_stack: NewStack, folder: Path, **more: object) -> Stack:
    """A container that is starting until /data/go is there."""
    mounts = settings_folder(folder / "prod", {"settings.py": HELD})
    return new_stack(Stack(PROD, mounts=mounts, **more)).start()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    return Stack()


@pytest.fixture(scope="module")
def odd(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A short backlog, no IPv6 addresses, as many descriptors as the engine has; three workers are asked for.

    Kubernetes tells it of a service that is called `uwsgi`.
    """
    sysctls = ["--sysctl", "net.core.somaxconn=64", "--sysctl", "net.ipv6.conf.all.disable_ipv6=1"]
    variables = {"UWSGI_PROCESSES": "3", "UWSGI_LISTEN": "500", "LOG_LEVEL": "WARNING", **SERVICE}
    stack = Stack(variables, options=sysctls)
    stack.allowed = ["UWSGI_LISTEN=500", "UWSGI_(PORT|SERVICE_HOST) is an orchestrator's address"]
    try:
        yield stack.up()
        assert stack.trouble() == []
    finally:
        stack.remove()


def test_the_first_answer_and_the_first_page_come_soon(new_stack: NewStack) -> None:
    # Far above what it takes on an idle machine; this one may be busy at the moment.
    for _ in range(3):
        stack = new_stack(Stack()).start()
        wait_until(lambda: status(stack) in (200, 503), every=0.01)  # noqa: B023
        first = time.time() - began(stack)
        wait_until(lambda: status(stack) == 200, every=0.01)  # noqa: B023
        page = time.time() - began(stack)
        print(f"first answer after {first:.2f} s, first 200 after {page:.2f} s")
        if first < 3 and page < 8:
            return
        stack.stop()
    pytest.fail("none of three starts was soon enough")


def test_nobody_is_root_and_pid_1_is_init(site: Stack) -> None:
    users = docker("top", site.name, "-eo", "uid,pid").splitlines()[1:]
    assert len(users) > 5
    assert {line.split()[0] for line in users} == {"10001"}
    assert any(word.endswith("/bin/init") for word in site.exec("cat", "/proc/1/cmdline").split("\0"))


def test_supervisorctl_tells_the_programs_states(site: Stack) -> None:
    told = dict(line.split()[:2] for line in site.exec("supervisorctl", "status", check=False).splitlines())
    # Running after startsecs.
    assert told.keys() == {"application", "nginx"}
    assert set(told.values()) <= {"RUNNING", "STARTING"}


def test_an_orchestrators_variables_do_not_reach_uwsgi(odd: Stack) -> None:
    for name in ("UWSGI_PORT", "UWSGI_SERVICE_HOST"):
        assert f"cmd: warning: {name} is an orchestrator's address of a service" in odd.logs()
    # PID 1 has what the engine gave it.
    script = "for pid in $(supervisorctl pid application) 1; do tr '\\0' '\\n' </proc/$pid/environ; echo; done"
    uwsgi, init = odd.exec("sh", "-c", script).split("\n\n")[:2]
    assert "UWSGI_PROCESSES=3" in uwsgi
    assert not [name for name in SERVICE if f"{name}=" in uwsgi]
    assert [name for name in SERVICE if f"{name}=" in init] == list(SERVICE)


SHOW = "import os; print(*(os.environ.get(name) for name in ('LOG_LEVEL', 'UWSGI_PROCESSES', 'USE_SSL')))"


def test_what_docker_exec_starts_runs_with_the_sites_values(odd: Stack) -> None:
    def shown(*options: str) -> tuple[int, str, str]:
        done = run("docker", "exec", *options, odd.name, "manage", "shell", "-v0", "-c", SHOW, check=False)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    # As the start checked and completed them; a value that is given for this command wins.
    assert shown()[:2] == (0, "warning 3 off")
    assert shown("-e", "LOG_LEVEL=Debug")[:2] == (0, "debug 3 off")
    status, _, said = shown("-e", "LOG_LEVEL=loud")
    assert (status, said) == (
        64,
        "manage: error: LOG_LEVEL='loud' must be one of debug, info, warning, error, critical",
    )


def test_manage_says_that_the_code_is_in_the_image(odd: Stack) -> None:
    for command, status, words in (("makemigrations", 0, "No changes detected"), ("startapp", 1, "Read-only")):
        done = run("docker", "exec", odd.name, "manage", command, *["shop"] * (status == 1), check=False)
        assert (done.returncode, words in done.stdout + done.stderr) == (status, True)
        assert f"manage: warning: {command} works on the code in the image" in done.stderr


def test_without_a_start_manage_derives_the_values_anew() -> None:
    words = ("run", "--rm", "--label", LABEL, "-e", "LOG_LEVEL=Warning", "-e", "USE_SSL=NO", IMAGE)
    level, processes, secure = docker(*words, "manage", "shell", "-v0", "-c", SHOW).split()
    assert (level, secure) == ("warning", "off")
    assert int(processes) >= 1


def test_by_default_there_are_two_workers_a_cpu_as_far_as_memory_goes(site: Stack) -> None:
    fit = min(2 * int(docker("info", "--format", "{{.NCPU}}")), (512 - 64) // 48)
    assert f"uWSGI processes: {fit}, threads each: 1" in site.logs()
    assert len(site.uwsgi()["workers"]) == fit


def test_orphans_leave_no_zombies(site: Stack) -> None:
    # The shell ends first; then they are init's.
    pids = site.exec("sh", "-c", "for number in 1 2 3 4 5; do sleep 600 >/dev/null 2>&1 & echo $!; done").split()
    # Forked, they are not at once what they become.
    wait_until(lambda: states(site, "sleep") == ["S"] * 5)
    site.exec("sh", "-c", f"kill {' '.join(pids)}")
    wait_until(lambda: states(site, "sleep") == [])


@pytest.mark.parametrize(
    ("program", "end"),
    [("application", "kill $(supervisorctl pid application)"), ("nginx", "kill -QUIT $(cat /run/nginx.pid)")],
)
def test_a_program_that_ends_by_itself_is_started_again(program: str, end: str, site: Stack) -> None:
    # A probe in uWSGI's queue goes with it.
    site.allowed.append("recv.. failed .*uwsgi://unix:/run/uwsgi.sock|connect.. to unix:/run/uwsgi.sock failed")
    site.exec("sh", "-c", end)
    assert site.says(f"supervisor: {program} ended with status 0")
    wait_until(lambda: status(site) == 200)
    wait_until(lambda: site.logs().count(f"supervisor: starting {program}\n") == 2)


def test_a_second_start_renders_the_same_bytes(site: Stack) -> None:
    sums = ("sh", "-c", "cd /run/nginx && sha256sum *")
    before = site.exec(*sums)
    assert before.count("\n") > 5
    docker("restart", site.name)
    site.wait_healthy()
    assert site.exec(*sums) == before


def test_a_page_says_that_the_site_is_starting_until_it_is_ready(new_stack: NewStack, tmp_path: Path) -> None:
    stack = hold(new_stack, tmp_path)
    assert stack.says("held up")
    wait_until(lambda: status(stack) != 0)
    for path in ("/", "/admin/", "/nowhere"):
        page = stack.get(path)
        assert (page.status_code, page.headers["Retry-After"]) == (503, "3")
        assert "<title>Starting</title>" in page.text
        assert page.headers["Cache-Control"] == "no-store"
    said = run("docker", "exec", stack.name, "healthcheck", check=False)
    assert (said.returncode, said.stdout) == (1, "the application is starting\n")
    stack.exec("touch", "/data/go")
    wait_until(lambda: status(stack) == 200)
    # The only lines of nginx are those of the requests.
    assert not re.search(r"connect\(\)|upstream|\[\w+\] \d+#", stack.logs())


def test_a_given_number_of_workers_is_uwsgis(odd: Stack) -> None:
    assert "uWSGI processes: 3, threads each: 1" in odd.logs()
    assert len(odd.uwsgi()["workers"]) == 3


def test_a_backlog_longer_than_somaxconn_is_clamped_with_a_warning(odd: Stack) -> None:
    warning = "cmd: warning: UWSGI_LISTEN=500 is more than net.core.somaxconn allows: using 64"
    assert odd.logs().count(warning) == 1


def test_a_huge_limit_of_descriptors_does_not_cost_memory(odd: Stack) -> None:
    # A limit above the engine's own cannot be asked for.
    assert int(odd.exec("sh", "-c", "ulimit -Hn").replace("unlimited", "1048576")) > 4096
    read = "cat /sys/fs/cgroup/memory.current 2>/dev/null || cat /sys/fs/cgroup/memory/memory.usage_in_bytes"
    assert int(odd.exec("sh", "-c", read)) < 256 * 1024 * 1024


def test_it_serves_without_ipv6(odd: Stack) -> None:
    assert odd.exec("cat", "/proc/net/if_inet6", check=False) == ""
    assert status(odd) == 200


def test_128_megabytes_give_one_worker_that_serves_and_no_migration_is_applied_when_off(new_stack: NewStack) -> None:
    options = ["--memory", "128m", "--memory-swap", "128m", "--sysctl", "net.core.somaxconn=64"]
    stack = new_stack(Stack({"RUN_MIGRATIONS": "off"}, options=options)).up()
    assert [status(stack) for _ in range(20)] == [200] * 20
    assert len(stack.uwsgi()["workers"]) == 1
    # The default backlog is lowered without a warning.
    assert "somaxconn" not in stack.logs()
    tables = "import sqlite3; print(*sqlite3.connect('/data/db.sqlite3').execute('select * from sqlite_master'))"
    assert stack.exec("python3", "-c", tables) == ""
    assert "migrations applied" not in stack.logs()
    assert not stack.state()["OOMKilled"]


def test_another_command_is_run_instead_of_the_start() -> None:
    container = ("run", "--rm", "--label", LABEL, Stack().image)
    assert docker(*container, "sh", "-c", "echo $((6 * 7)); id -u; id -g") == "42\n10001\n0"
    assert docker(*container, "manage", "check") == "System check identified no issues (0 silenced)."


SLOW_MIGRATION = """
    migrations.RunSQL("CREATE TABLE half (id integer)"),
    migrations.RunPython(lambda *_: (print("held up", file=sys.stderr, flush=True), time.sleep(60))),
"""
# In the place of a program that cmd.sh calls.
SLOW_ENVSUBST = """#!/bin/sh
echo held up >&2
sleep 2
exec /usr/bin/envsubst "$@"
"""


@pytest.mark.parametrize("moment", ["cmd.sh", "import", "migration", "waiting for the database"])
def test_a_stop_during_the_start_ends_it_at_once_and_leaves_nothing_half_done(
    moment: str, new_stack: NewStack, tmp_path: Path
) -> None:
    variables, mounts, marker = PROD, [], "held up"
    if moment == "cmd.sh":
        program = tmp_path / "slow" / "envsubst"
        program.parent.mkdir()
        program.write_text(SLOW_ENVSUBST)
        program.chmod(0o755)
        path = "/slow:/app/dockerable/bin:/opt/app/bin:/opt/dockerable/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables, mounts = {"PATH": path}, [f"{program.parent}:/slow:ro"]
    elif moment == "import":
        mounts = settings_folder(tmp_path / "prod", {"settings.py": HELD})
    elif moment == "migration":
        mounts = settings_folder(tmp_path / "prod", app_with_migration(SLOW_MIGRATION))
    else:
        variables, marker = {"DATABASE_URL": "postgres://app:secret@127.0.0.1:9/app"}, "waiting for the database"
    stack = new_stack(Stack(variables, mounts=mounts)).start()
    stack.allowed = ["waiting for the database: "]
    assert stack.says(marker)
    asked = time.monotonic()
    assert stack.stop() == 0
    # Below stopwaitsecs of the application.
    assert time.monotonic() - asked < 10
    assert stack.last_line() == "cmd: stopped"
    if moment == "migration":
        words = ("--label", LABEL, "-v", f"{stack.volume}:/data", stack.image, "python3", "-c")
        dump = "import sqlite3; print(*sqlite3.connect('/data/db.sqlite3').iterdump(), sep='\\n')"
        tables = docker("run", "--rm", *words, dump)
        assert "accounts_user" in tables
        assert "half" not in tables


def test_a_killed_supervisord_ends_the_container_which_says_so(new_stack: NewStack, tmp_path: Path) -> None:
    stack = hold(new_stack, tmp_path)
    stack.allowed = ["^cmd: error: "]
    assert stack.says("held up")
    killed = time.monotonic()
    with contextlib.suppress(AssertionError):  # the container may end before the command does
        stack.exec("sh", "-c", "kill -9 $(cat /run/supervisord.pid)")
    assert stack.wait_end() == 70
    assert time.monotonic() - killed < 8
    assert stack.last_line() == "cmd: error: supervisord was killed by signal 9"


def first_run(*options: str, script: str = "exec /app/dockerable/cmd.sh") -> tuple[int, str]:
    """The exit status and all output of a container without the compose files' tmpfs."""
    done = run("docker", "run", "--rm", "--label", LABEL, *options, IMAGE, "sh", "-c", script, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("user", "form", "words"),
    [
        ("54321:0", "text", "Read-only file system: /run/failure (remedy: --tmpfs /run:mode=0770, as in"),
        ("10001:0", "json", "Read-only file system: /run/failure (remedy: --tmpfs /run:mode=0770, as in"),
        ("54321:54321", "text", "/run/failure (remedy: --"),
    ],
)
def test_without_a_tmpfs_the_start_ends_in_one_line(user: str, form: str, words: str) -> None:
    options = ("-e", f"LOG_FORMAT={form}", "--read-only", "--user", user)
    status, said = first_run(*options)
    assert (status, said.count("\n")) == (73, 1), said
    assert f"/run cannot be written by uid {user.partition(':')[0]}" in said
    assert words in said


@pytest.mark.parametrize(
    ("options", "mode", "warned"), [("mode=1777", "1777", True), ("mode=0777,uid=10001", "770", False)]
)
def test_a_run_of_everybodys_is_closed_where_it_is_ours_and_warned_of_elsewhere(
    options: str, mode: str, warned: bool
) -> None:
    volume = unique("run")
    tmpfs = ("type=tmpfs", "device=tmpfs", f"o={options}")
    docker("volume", "create", "--label", LABEL, *(word for one in tmpfs for word in ("--opt", one)), volume)
    try:
        script = "/app/dockerable/cmd.sh; stat -c %a /run"
        _, said = first_run("--read-only", "--tmpfs", "/tmp", "-v", f"{volume}:/run:nocopy", script=script)
    finally:
        docker("volume", "rm", "-f", volume)
    warning = "cmd: warning: /run may be written by everybody, mode 1777 (remedy: --tmpfs /run:mode=0770, as in"
    assert (said.count(warning), said.splitlines()[-1]) == (warned, mode), said
    assert "cmd: error: NGINX_SERVER_NAME is not set" in said


# In the place of init.
SHOW_PRIVILEGES = """
mkdir /tmp/bin
printf '#!/bin/sh\ngrep NoNewPrivs: /proc/self/status\n' >/tmp/bin/init
chmod +x /tmp/bin/init
PATH=/tmp/bin:$PATH exec /app/dockerable/cmd.sh
"""


def test_an_engine_that_drops_no_new_privileges_is_made_up_for() -> None:
    assert first_run(script=SHOW_PRIVILEGES) == (0, "NoNewPrivs:\t1\n")


def test_before_nginx_has_started_its_health_says_so() -> None:
    done = run("docker", "run", "--rm", IMAGE, "healthcheck", check=False)
    assert (done.returncode, done.stdout) == (1, "nginx has not started yet\n")
