"""Model cards that are true and whose code runs, and the hub behind a boundary."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from differential_diffusion.errors import InputError
from differential_diffusion.models.checkpoint import CheckpointConfig, save_checkpoint
from differential_diffusion.models.compress import Quality
from differential_diffusion.models.interchange import export_pipeline
from differential_diffusion.models.publish import Card, model_card, push
from differential_diffusion.nn import SigmaMapUNet, UNetConfig

from .test_interchange import checkpoint

DESCRIBED = CheckpointConfig(
    UNetConfig(channels=(8, 8), blocks=(1, 1)), size=(32, 48), card={"step": 1200, "seconds": 60}
)


def metadata(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    parsed: dict[str, Any] = yaml.safe_load(front)
    return parsed


def code(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(block)


def test_the_metadata_are_what_the_hub_reads() -> None:
    made = metadata(model_card(DESCRIBED, Card("mine", license="apache-2.0")))
    assert made == {
        "license": "apache-2.0",
        "library_name": "differential-diffusion",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["differential-diffusion", "diffusion", "image-denoising"],
    }
    assert metadata(model_card(DESCRIBED, Card("x", "diffusers")))["library_name"] == "diffusers"
    assert "license" not in metadata(model_card(DESCRIBED, Card("mine")))
    assert "No licence was given" in model_card(DESCRIBED, Card("mine"))


def test_the_metadata_pass_the_hub_s_own_check() -> None:
    hub = pytest.importorskip("huggingface_hub")
    text = model_card(DESCRIBED, Card("mine", license="cc-by-nc-4.0"))
    parsed = hub.ModelCard(text)
    assert parsed.data.license == "cc-by-nc-4.0"
    assert parsed.data.library_name == "differential-diffusion"


def test_figures_and_costs_are_told() -> None:
    figures = {"step": 1000, "psnr_25": 31.23456, "loss_held_out": 0.05}
    quality = ("2 pictures", [Quality(25.0, 31.5, 31.25, 1.5)])
    text = model_card(DESCRIBED, Card("mine", figures=figures, quality=quality))
    assert "| of the last validation | psnr_25 | 31.23 |" in text
    assert "| of the checkpoint | step | 1200 |" in text
    assert "| 25 | 31.50 dB | 31.25 dB | 1.5 of 255 |" in text
    assert "of 2 pictures" in text
    assert "32 x 48 pixels" in text
    assert "of every pixel" in text
    lifted = model_card(replace(DESCRIBED, maps=False), Card("mine"))
    assert "of the whole picture" in lifted
    assert "lifted" in lifted


def test_a_notice_is_named() -> None:
    assert "NOTICE" not in model_card(DESCRIBED, Card("mine", license="other"))
    assert "the file NOTICE" in model_card(DESCRIBED, Card("mine", license="other", notice=True))


def test_the_code_of_a_checkpoint_s_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "mine", SigmaMapUNet(DESCRIBED.network), DESCRIBED, torch.float32)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {}
    exec(code(model_card(replace(DESCRIBED, size=(32, 32)), Card("mine"))), said)
    assert said["result"].image.size == (32, 32)


def test_the_code_of_a_pipeline_s_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    export_pipeline(checkpoint(tmp_path / "ours"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {}
    exec(code(model_card(DESCRIBED, Card("mine", "diffusers"))), said)
    assert said["picture"].size == (16, 16)


def test_a_card_on_the_hub_fetches_from_there() -> None:
    text = model_card(DESCRIBED, Card("mine", repository="org/mine"))
    assert 'folder = snapshot_download("org/mine")' in code(text)


class Fake:
    """The hub, written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        self.calls.append(("create", {"repo": repo_id, "private": private, "exist_ok": exist_ok}))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        files = sorted(path.name for path in Path(folder_path).iterdir())
        self.calls.append(("upload", {"repo": repo_id, "files": files}))
        return f"address of {repo_id}"


def test_pushing_makes_the_repository_and_sends_the_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("card")
    (tmp_path / "model.safetensors").write_bytes(b"")
    hub = Fake()
    assert push(tmp_path, "org/mine", private=True, hub=hub) == "address of org/mine"
    assert hub.calls == [
        ("create", {"repo": "org/mine", "private": True, "exist_ok": True}),
        ("upload", {"repo": "org/mine", "files": ["README.md", "model.safetensors"]}),
    ]
    other = Fake()
    push(tmp_path, "org/mine", hub=other)
    assert other.calls[0][1]["private"] is None, "left to what the organisation has set"


@pytest.mark.parametrize(
    "repository",
    ["mine", "org/", "a/b/c", "org/na me", "", "org/na--me", "org/.name", "org/x..y", "a/b.git"],
)
def test_an_id_of_another_form_is_refused(tmp_path: Path, repository: str) -> None:
    hub = Fake()
    with pytest.raises(InputError, match="no id on the hub"):
        push(tmp_path, repository, hub=hub)
    assert hub.calls == []


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that answers everything with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "does not let you write"), (403, "does not let you write"), (400, "HTTP 400")],
)
def test_what_the_hub_refuses_is_one_sentence(tmp_path: Path, status: int, sentence: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    with (
        answering(status) as address,
        pytest.raises(InputError, match=f"{sentence}|{sentence}.*'org/mine'") as caught,
    ):
        push(tmp_path, "org/mine", hub=hub.HfApi(endpoint=address, token="none"))
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(InputError, match="cannot be reached"):
            push(tmp_path, "org/mine", hub=hub.HfApi(endpoint=address, token="none"))


def test_offline_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        push(tmp_path, "org/mine", hub=hub.HfApi(token="none"))


def test_what_is_not_the_hub_s_fault_stays_what_it_is(tmp_path: Path) -> None:
    class Broken(Fake):
        def upload_folder(self, **_: Any) -> str:
            raise KeyError("ours")

    with pytest.raises(KeyError):
        push(tmp_path, "org/mine", hub=Broken())
