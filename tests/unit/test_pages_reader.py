"""Which commands a reader finds on a page, and in which order."""

import pytest

from tests.support.pages import IN_A_CONTAINER, IN_A_NEW_PROJECT, NOT_RUN, UNTIL_CTRL_C, Block, read_blocks

PAGE = """# Page

```sh
first
```

```
what it prints
```

## One

<!-- not run: needs a registry -->
```sh
second --option

third
```

<!-- runs until Ctrl-C -->
```sh
fourth
```

```python
print("## no heading")
```

## Two
<!-- in a container: changes the host -->
```sh
fifth
```

<!-- in a new project -->
```sh
sixth
```
"""


def test_blocks_come_in_their_order_with_line_section_and_marker() -> None:
    assert read_blocks(PAGE, "page.md") == [
        Block("page.md", 4, "", ("first",)),
        Block("page.md", 15, "One", ("second --option", "third"), NOT_RUN, "needs a registry"),
        Block("page.md", 22, "One", ("fourth",), UNTIL_CTRL_C),
        Block("page.md", 32, "Two", ("fifth",), IN_A_CONTAINER, "changes the host"),
        Block("page.md", 37, "Two", ("sixth",), IN_A_NEW_PROJECT),
    ]


def test_a_block_names_its_page_and_line() -> None:
    assert str(read_blocks(PAGE, "page.md")[0]) == "page.md:4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- not run: -->\n```sh\na\n```\n", "page.md:1: no marker that the tests know"),
        ("<!-- not run -->\n```sh\na\n```\n", "page.md:1: no marker that the tests know"),
        ("<!-- skip: slow -->\n```sh\na\n```\n", "page.md:1: no marker that the tests know"),
        ("<!-- not run: why -->\n\n```sh\na\n```\n", "page.md:2: a marker, and no sh block after it"),
        ("<!-- not run: why -->\n```\na\n```\n", "page.md:2: a marker, and no sh block after it"),
    ],
    ids=["an empty reason", "no reason", "another word", "a line between", "another language"],
)
def test_a_comment_that_marks_nothing_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_blocks(text, "page.md")
