"""Moments of uWSGI in which a signal once was lost, or ended a worker too early: made longer by a preloaded library."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.docker import LABEL, docker, unique
from tests.support.load import Load, load
from tests.support.processes import seconds_of_a_stop
from tests.support.stack import WORKERS_DIE, Stack
from tests.support.tree import helper_image
from tests.support.wait import wait_until

NewStack = Callable[[Stack], Stack]
# What the log says where a worker is killed and uWSGI stopped while nginx goes on.
ENDS = (WORKERS_DIE, r"connect\(\) to unix:/run/uwsgi.sock failed|killed by signal 9", "GET /dockerable/live")


@pytest.fixture
def delayed(new_stack: NewStack, tmp_path: Path) -> Stack:
    """A site whose uWSGI is slow where the library finds its files."""
    # The folder above is closed to others.
    place = tmp_path / "delay"
    place.mkdir()
    name = unique("delay")
    docker("create", "--name", name, "--label", LABEL, helper_image("delay"), "true")
    try:
        docker("cp", f"{name}:/delay.so", place)
    finally:
        docker("rm", name)
    variables = {"UWSGI_PROCESSES": "1", "LD_PRELOAD": "/delay/delay.so"}
    return new_stack(Stack.trial(variables, mounts=[f"{place}:/delay:ro"])).up()


@pytest.mark.slow
def test_a_worker_whose_pid_the_master_does_not_know_yet_ends_with_it(delayed: Stack) -> None:
    delayed.allowed = [*ENDS]
    delayed.exec("touch", "/tmp/slow-fork")
    assert seconds_of_a_stop(delayed, 0.5) < 50
    delayed.exec("rm", "/tmp/slow-fork")
    delayed.wait_healthy()


@pytest.mark.slow
def test_a_connection_that_was_taken_is_answered_although_its_worker_shall_end(delayed: Stack) -> None:
    delayed.exec("touch", "/tmp/slow-accept")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(delayed.get, "/show")
        # The worker has taken it by then, and reads from it five seconds after that. Where a sign of life came before,
        # its connection is the one that must not be lost: the log would say so.
        time.sleep(0.5)
        delayed.exec("sh", "-c", "echo c >/run/uwsgi.fifo")
        assert asked.result().status_code == 200
    delayed.exec("rm", "/tmp/slow-accept")
    delayed.wait_healthy()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_of_two_hundred_chain_reloads_on_a_busy_machine_none_costs_a_request(new_stack: NewStack) -> None:
    """Four sites at once, whose clients leave no CPU idle."""
    # The least share of the CPUs, so that other tests that run beside it get what they need.
    options = ["--cpu-shares", "32"]
    sites = [new_stack(Stack.trial({"UWSGI_PROCESSES": "2"}, options=options)) for _ in range(4)]
    for site in sites:
        site.allowed = ["worker respawning too fast"]
        site.up()

    def reload(site: Stack) -> Load:
        with load(site, "/show", clients=2) as seen:
            for number in range(1, 51):
                site.exec("sh", "-c", "echo c >/run/uwsgi.fifo")
                wait_until(lambda: site.logs().count("chain reloading complete") >= number, 120, every=1)  # noqa: B023
        return seen

    with ThreadPoolExecutor(4) as pool:
        for seen in pool.map(reload, sites):
            assert seen.failed() == {}
            assert seen.answered["200"] > 100
