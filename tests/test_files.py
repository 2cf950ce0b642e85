"""Folders that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from differential_diffusion.errors import InputError
from differential_diffusion.files import new_folder


@pytest.mark.parametrize("empty", [False, True])
def test_the_folder_takes_its_name_when_it_is_full(tmp_path: Path, empty: bool) -> None:
    target = tmp_path / "deep" / "model"
    if empty:
        target.mkdir(parents=True)
    with new_folder(target) as folder:
        (folder / "a").write_text("a")
        assert not (target / "a").exists()
    assert (target / "a").read_text() == "a"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "model") as folder:
            (folder / "a").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("model", "file"):
        with pytest.raises(InputError, match="exists already"), new_folder(tmp_path / name):
            pytest.fail("it was given")
    assert (tmp_path / "model" / "a").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"), new_folder(tmp_path / "file/model"):
        pytest.fail("it was given")
