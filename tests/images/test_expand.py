"""Names of files, folders and patterns become image files."""

from __future__ import annotations

from pathlib import Path

import pytest

from differential_diffusion.errors import InputError
from differential_diffusion.images import expand


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.png", "a.JPG", "c.tiff", "notes.txt", ".hidden.png", "e[1].png", "sub/d.webp",
        "sub/x.md", "empty/readme.md",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str | Path) -> list[str]:
    return [path.as_posix() for path in expand(inputs)]


def test_files_come_in_the_order_given_and_once(tree: Path) -> None:
    assert names("b.png", "a.JPG", "b.png") == ["b.png", "a.JPG"]
    assert names("notes.txt") == ["notes.txt"]  # named outright: reading will judge


def test_a_folder_gives_its_visible_images_sorted(tree: Path) -> None:
    assert names("sub") == ["sub/d.webp"]
    assert names(tree) == [(tree / n).as_posix() for n in ("a.JPG", "b.png", "c.tiff", "e[1].png")]


def test_patterns(tree: Path) -> None:
    assert names("*.png") == ["b.png", "e[1].png"]
    assert names("*") == ["a.JPG", "b.png", "c.tiff", "e[1].png"]
    assert names("**/*.webp") == ["sub/d.webp"]
    assert names("[bc].*", "sub") == ["b.png", "c.tiff", "sub/d.webp"]


def test_a_file_whose_name_is_a_pattern_is_taken_by_name(tree: Path) -> None:
    assert names("e[1].png") == ["e[1].png"]


def test_one_name_alone_is_one_input(tree: Path) -> None:
    assert expand("b.png") == [Path("b.png")]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "no input"),
        (["missing.png"], "'missing.png' does not exist"),
        (["b.png", "missing.png"], "'missing.png' does not exist"),
        (["empty"], "holds no image files"),
        (["*.gif"], "matches no image files"),
        (["*.md"], "matches no image files"),
        (["none/*.png"], "matches no image files"),
    ],
)
def test_what_matches_nothing_is_an_error(tree: Path, inputs: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("*", r"\*")) as raised:
        expand(inputs)
    assert str(raised.value).endswith(".")
