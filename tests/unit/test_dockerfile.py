"""Rules of the CIS Docker Benchmark (by number, see dockerable/SECURITY.md) that the Dockerfile must keep."""

import re

from tests.support.docker import ROOT
from tests.support.secret_names import SECRET

DOCKERFILE = (ROOT / "dockerable/Dockerfile").read_text()


def instructions(text: str) -> list[str]:
    """A Dockerfile's instructions, each on one line, without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


# 4.2
def test_the_base_is_debians_and_the_only_one() -> None:
    bases = [line.split()[1] for line in instructions(DOCKERFILE) if line.startswith("FROM ")]
    assert set(bases) == {"${BASE_IMAGE}"}
    assert "ARG BASE_IMAGE=debian:trixie-slim" in DOCKERFILE


# 4.7, 4.9, 4.11
def test_files_are_copied_packages_installed_in_one_step_and_nothing_is_fetched_otherwise() -> None:
    steps = instructions(DOCKERFILE)
    assert [step for step in steps if step.startswith("ADD ")] == []
    for step in steps:
        if "apt-get update" in step:
            assert re.search(r"apt-get update && apt-get install .*rm -rf /var/lib/apt/lists", step), step
        assert not re.search(r"\b(curl|wget|git clone|allow-unauthenticated|trusted=yes|no-check)\b", step), step
        for command in re.findall(r"pip (?:\S+ )*?(?:install|download) [^&;]*", step):
            # The user names plugins at build, so no requirement file of ours can pin them.
            assert "--require-hashes" in command or "$CERTBOT_PLUGINS" in command, command


# 4.10
def test_no_variable_or_argument_that_it_names_is_a_secret() -> None:
    named = re.findall(r"^(?:ARG|ENV) (\w+)", DOCKERFILE, re.M)
    assert named
    assert [name for name in named if SECRET.search(name)] == []
    # The one that Django wants while it collects the static files.
    assert re.findall(r"SECRET_KEY=(\S+)", DOCKERFILE) == ["unused"]
