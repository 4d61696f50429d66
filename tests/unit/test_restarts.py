"""When a program that ends again and again is given up, and when it is only restarted."""

import pytest

from dockerable.container.restarts import Restarts

HOW = "was killed by signal 9"


class Programs:
    """Programs that end, by a clock of their own."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.restarts = Restarts(lambda: self.now)

    def end(self, *, ran: float = 1.0, ready: bool = False, program: str = "nginx") -> str:
        """Let one end after so many seconds; why it is given up."""
        self.now += ran
        return self.restarts.ended(program, HOW, ran=ran, ready=ready)


def test_the_fifth_failure_in_a_row_is_the_last() -> None:
    programs = Programs()
    assert [programs.end() for _ in range(4)] == [""] * 4
    assert programs.end() == f"nginx failed 5 times in a row, the last time it {HOW}"


@pytest.mark.parametrize(("ran", "ready"), [(1.0, True), (120.0, False)], ids=["ready", "late"])
def test_an_end_after_the_site_was_ready_or_much_later_begins_the_count_again(ran: float, ready: bool) -> None:
    programs = Programs()
    for _ in range(4):
        programs.end(ran=20)
    assert programs.end(ran=ran, ready=ready) == ""
    assert [programs.end(ran=20) for _ in range(4)] == [""] * 4
    assert "failed 5 times in a row" in programs.end(ran=20)


def test_ten_ends_within_two_minutes_are_too_many_although_the_site_was_ready_each_time() -> None:
    programs = Programs()
    assert [programs.end(ran=13, ready=True) for _ in range(9)] == [""] * 9
    assert programs.end(ran=13, ready=True) == f"nginx ended 10 times within 120 s, the last time it {HOW}"


def test_ends_that_are_further_apart_are_restarted_for_ever() -> None:
    programs = Programs()
    assert {programs.end(ran=14, ready=True) for _ in range(100)} == {""}


def test_each_program_has_its_own_count() -> None:
    programs = Programs()
    for _ in range(4):
        assert programs.end(program="nginx") == programs.end(program="application") == ""
    assert programs.end(program="application").startswith("application failed 5 times")
    assert programs.end(program="nginx").startswith("nginx failed 5 times")
    for _ in range(5):
        ready = [programs.end(program=name, ready=True) for name in ("third", "fourth")]
        assert ready == ["", ""]


def test_the_certificate_program_is_never_given_up() -> None:
    programs = Programs()
    assert {programs.end(ran=0.1, program="certificate") for _ in range(100)} == {""}


def test_one_that_cannot_be_kept_running_is_given_up_with_how_it_ended_last() -> None:
    programs = Programs()
    programs.end()
    assert programs.restarts.not_kept_running("nginx", "Exited too quickly") == (
        f"nginx cannot be kept running, the last time it {HOW}"
    )
    assert programs.restarts.not_kept_running("application", "can't find command") == (
        "application cannot be kept running, the last time it can't find command"
    )
    assert programs.restarts.not_kept_running("application", None).endswith("the last time it ends at once")
