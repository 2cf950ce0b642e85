"""What a reader relies on: licences, commands that exist, an example that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import differential_diffusion as dd

DIFFDIFF = [sys.executable, "-c", "from differential_diffusion.cli import main; main()"]

# Home and scratch folders of somebody's machine, and the hosts of package registries. Written as
# patterns that do not match themselves.
FORBIDDEN = {
    "an absolute path": r"(?<![\w.~-])/(?:home|root|work|mnt|srv|opt|tmp|Users)/\w|\b[A-Z]:\\\w",
    "a registry's host": r"\b(?:py[p]i\.org|pytho[n]hosted\.org|registry\.np[m]js|deb\.debia[n])",
}


def tracked_files(repository: Path) -> list[Path]:
    """Files that git tracks or would, apart from those deleted in the working tree."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, check=True).stdout
    files = [repository / name for name in listed.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


def text_of(path: Path) -> str:
    """The file's text, or nothing for a binary file."""
    data = path.read_bytes()
    return "" if b"\0" in data[:8192] else data.decode("utf-8", errors="ignore")


def code_blocks(text: str, *languages: str) -> list[str]:
    """Fenced blocks of a Markdown text in the given languages, in order, indented ones too."""
    fence = rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^\1```"
    found = re.findall(fence, text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


@pytest.fixture(scope="session")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text("utf-8")


def test_the_licence_is_apache_2_whole(repository: Path) -> None:
    text = (repository / "LICENSE").read_text("utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    for section in range(1, 10):
        assert re.search(rf"^   {section}\. [A-Z]", text, re.MULTILINE), f"section {section}"
    assert "APPENDIX: How to apply" in text


def test_the_notice_names_what_the_weights_were_trained_on(repository: Path) -> None:
    text = (repository / "NOTICE").read_text("utf-8")
    for word in ("Apache", "weights", "BSDS500", "ImageNet", "non-commercial research"):
        assert word in text


@pytest.mark.parametrize("what", FORBIDDEN)
def test_text_names_no_machine(repository: Path, what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(repository)}:{number}: {line.strip()}"
        for path in tracked_files(repository)
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == [], f"{what} does not belong in the repository"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /" + "home/ada/pictures", "an absolute path"),
        ("C:" + "\\Users", "an absolute path"),
        ("https://py" + "pi.org/simple", "a registry's host"),
    ],
)
def test_the_patterns_find_what_they_are_for(text: str, what: str) -> None:
    assert re.search(FORBIDDEN[what], text)
    assert not re.search(FORBIDDEN[what], "#!/usr/bin/env bash, docs/home/x, ../shared/data, a:b")


def test_the_changelog_has_this_version_or_an_unreleased_one(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings
    assert headings[0] in {"Unreleased", dd.__version__}


def commands_in(repository: Path, program: str) -> set[str]:
    """First arguments that the texts for users give to a program, in code."""
    found: set[str] = set()
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *docs_pages(repository)):
        text = (repository / name).read_text("utf-8")
        code = "\n".join(code_blocks(text, "sh", "bash", "console"))
        code += "\n".join(re.findall(r"`([^`\n]+)`", text))
        found |= set(re.findall(rf"(?:^|\$ |\n|; |&& ){program} ([a-z][a-z-]*)", code))
    return found


def docs_pages(repository: Path) -> list[str]:
    return [str(path.relative_to(repository)) for path in (repository / "docs").glob("*.md")]


def test_make_targets_named_in_the_texts_exist(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = commands_in(repository, "make")
    assert {"demo", "test"} <= named
    assert named <= targets


def test_diffdiff_commands_named_in_the_texts_exist(repository: Path) -> None:
    named = commands_in(repository, "diffdiff")
    assert {"edit", "restore", "train"} <= named
    for command in sorted(named):
        done = subprocess.run([*DIFFDIFF, command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, f"diffdiff {command}: {done.stderr}"


def test_the_readme_points_at_files_that_exist(repository: Path, readme: str) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", readme)
    links += re.findall(r'src="(?!https?://)([^"]+)"', readme)
    missing = [link for link in links if not (repository / link).exists()]
    assert links
    assert missing == []


def test_the_readme_s_python_example_runs(repository: Path, readme: str, tmp_path: Path) -> None:
    """The first Python block, in a folder with the repository's examples/ and two small files.

    The example may open pictures from examples/, or `photo.jpg`, `photo.png` and `mask.png`.
    """
    blocks = code_blocks(readme, "python", "py")
    assert blocks, "README.md shows no Python"
    if (repository / "examples").is_dir():
        shutil.copytree(repository / "examples", tmp_path / "examples")
    row, column = np.mgrid[0:48, 0:64]
    photo = np.stack([4 * column, 5 * row, 2 * (row + column)], axis=-1).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    Image.fromarray((255 * (abs(row - 24) < 8)).astype(np.uint8)).save(tmp_path / "mask.png")
    done = subprocess.run(
        [sys.executable, "-c", blocks[0]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
