"""Fixtures that run containers, show them when a test fails, and always remove them."""

from collections.abc import Callable, Generator, Iterator

import pytest

from tests.support.acme import Pebble
from tests.support.order import LONGEST
from tests.support.stack import Stack

stacks = pytest.StashKey[list[Stack]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first; the order in a module is its own."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, None]:
    """A failed test's report ends with its containers' logs and rendered configuration."""
    report = (yield).get_result()  # type: ignore[attr-defined]
    if report.failed:
        module = item.getparent(pytest.Module)
        shown = item.stash.get(stacks, []) + (module.stash.get(stacks, []) if module else [])
        report.sections += [(f"container {stack.name}", stack.report()) for stack in shown]


def keep(node: pytest.Item | pytest.Module, stack: Stack) -> Stack:
    node.stash.setdefault(stacks, []).append(stack)
    return stack


def check_log(stack: Stack) -> None:
    """Fail if the log has warnings or errors that the test does not allow; print it while the container exists."""
    if trouble := stack.trouble():
        print(stack.report())
    assert not trouble, "unexpected in the log:\n" + "\n".join(trouble)


@pytest.fixture
def new_stack(request: pytest.FixtureRequest) -> Iterator[Callable[[Stack], Stack]]:
    """Takes a Stack, removes it after the test, and fails if its log has warnings or errors that are not allowed."""
    mine: list[Stack] = []

    def take(stack: Stack) -> Stack:
        mine.append(stack)
        return keep(request.node, stack)

    yield take
    try:
        for stack in mine:
            check_log(stack)
    finally:
        for stack in mine:
            stack.remove()


@pytest.fixture(scope="module")
def site_stack() -> Stack:
    """The Stack that `site` starts; a module that needs other variables or limits overrides this fixture."""
    return Stack.trial()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, site_stack: Stack) -> Iterator[Stack]:
    """One healthy container with the trial views for a whole module."""
    stack = keep(request.node, site_stack)
    try:
        yield stack.up()
        check_log(stack)
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """One ACME server for a whole module; it refuses blocked.test."""
    server = Pebble(tmp_path_factory.mktemp("pebble"), config={"domainBlocklist": ["blocked.test"]})
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def new_pebble() -> Iterator[Callable[[Pebble], Pebble]]:
    """Takes a Pebble, starts it, removes it after the test; comes before new_stack, whose containers it connects."""
    mine: list[Pebble] = []

    def take(server: Pebble) -> Pebble:
        mine.append(server)
        return server.start()

    yield take
    for server in mine:
        server.remove()
