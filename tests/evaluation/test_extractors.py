"""Extractors against what they are said to be, and what tells one from another."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import differential_diffusion as dd
from differential_diffusion.core.noise import PositionalNoise
from differential_diffusion.errors import InputError, MissingExtraError
from differential_diffusion.evaluation import extractors, load_extractor
from differential_diffusion.models import prior_network
from differential_diffusion.models.computed import weights_digest

from .. import extractor_models


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_pixels_are_the_pixels_of_a_stated_side() -> None:
    assert (load_extractor("pixels").size, load_extractor("pixels:9").size) == (16, 9)
    assert load_extractor("pixels").hash != load_extractor("pixels:9").hash
    x = noise(2, 3, 9, 9)
    np.testing.assert_array_equal(load_extractor("pixels:9")(x), x.reshape(2, -1).numpy())


def test_the_prior_s_are_moments_after_each_encoder_stage() -> None:
    """Against the encoder walked by hand, with EDM's scaling written out."""
    x = noise(2, 3, 64, 64)
    network, described = prior_network()
    sigma, data = extractors.PRIOR_SIGMA, described.form.sigma_data
    noisy = x + sigma * PositionalNoise([0], 3, 64, 64)(0)
    scaled = noisy / (sigma**2 + data**2) ** 0.5
    c_noise = torch.full((1, 1, 1, 1), sigma).log() / 4
    expected = []
    with torch.no_grad():
        embeddings = network._embeddings(c_noise, extractor_conditions(), 2)
        seen = torch.cat([scaled, c_noise.expand(2, 1, 64, 64)], 1)
        h = network.stem(torch.nn.functional.pixel_unshuffle(seen, network.config.patch))
        for i, stage in enumerate(network.encoder):
            h = stage(h, embeddings[i])
            expected += [h.mean((2, 3)), h.var((2, 3), correction=0).sqrt()]
            h = network.down[i](h) if i < len(network.down) else h
    found = load_extractor("prior", "cpu")(x)
    assert found.shape == (2, 2 * (64 + 128 + 160))
    np.testing.assert_allclose(found, torch.cat(expected, 1).numpy(), atol=1e-4)


def extractor_conditions() -> Any:
    from differential_diffusion.nn import Conditions

    return Conditions()


def test_the_prior_itself_is_left_as_it_was() -> None:
    model = dd.load_model("prior", device="cpu", precision="fp32")
    x, sigma = noise(1, 3, 16, 16), torch.full((1, 1, 1, 1), 0.1)
    with torch.no_grad():
        before = model.denoiser(x, sigma)
        load_extractor("prior", "cpu")(noise(2, 3, 64, 64))
        assert torch.equal(model.denoiser(x, sigma), before)


def test_the_hash_follows_weights_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [load_extractor(name, "cpu").hash for name in ("prior", "prior:32", "prior")]
    assert hashes[0] == hashes[2] != hashes[1]
    network, described = prior_network()
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-6
    monkeypatch.setattr(extractors, "prior_network", lambda: (network, described))
    assert load_extractor("prior", "cpu").hash != hashes[0]


def test_the_digest_of_weights_sees_names_shapes_types_and_values() -> None:
    base = {"a": torch.arange(6.0), "b": torch.ones(2)}
    others = [
        {"c": base["a"], "b": base["b"]},
        {"a": base["a"].view(2, 3), "b": base["b"]},
        {"a": base["a"].double(), "b": base["b"]},
        {"a": base["a"].flip(0), "b": base["b"]},
        {"a": base["a"]},
    ]
    assert len({weights_digest(each) for each in [base, *others]}) == 6
    assert weights_digest(dict(reversed(base.items()))) == weights_digest(base)


def direct(folder: Path, x: torch.Tensor) -> Any:
    """The model's own outputs for pictures scaled as its processor does."""
    from transformers import ViTModel

    given = (((x + 1) * 127.5).round() / 255 - 0.5) / 0.5
    with torch.no_grad():
        return ViTModel.from_pretrained(folder).eval()(pixel_values=given)


def test_a_vision_model_gives_its_pooled_output(tmp_path: Path) -> None:
    folder = extractor_models.vision_model(tmp_path / "vit")
    x = noise(3, 3, 32, 32)
    found = load_extractor(f"transformers:{folder}", "cpu")(x)
    np.testing.assert_allclose(found, direct(folder, x).pooler_output.numpy(), atol=1e-4)


@pytest.mark.parametrize("saved", [{"head": True}, {"pooler": False}])
@pytest.mark.filterwarnings("ignore")
def test_without_pooled_weights_it_gives_its_class_token(
    tmp_path: Path, saved: dict[str, bool]
) -> None:
    """Else features would be random numbers, and others at each start."""
    folder = extractor_models.vision_model(tmp_path / "vit", **saved)
    x = noise(3, 3, 32, 32)
    extractor = load_extractor(f"transformers:{folder}", "cpu")
    token = direct(folder, x).last_hidden_state[:, 0]
    np.testing.assert_allclose(extractor(x), token.numpy(), atol=1e-4)
    assert load_extractor(f"transformers:{folder}", "cpu").hash == extractor.hash


def test_a_convolutional_model_and_one_of_pictures_and_texts(tmp_path: Path) -> None:
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        ConvNextImageProcessorPil,
        ResNetConfig,
        ResNetModel,
    )

    layers = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip
    clip = CLIPConfig(
        text_config={**layers, "vocab_size": 9},
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=5,
    )
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
    side = {"height": 32, "width": 32}
    for model, processor, numbers in (
        (CLIPModel(clip), CLIPImageProcessorPil(size=side, do_center_crop=False), 5),
        (ResNetModel(resnet), ConvNextImageProcessorPil(size={"shortest_edge": 32}), 12),
    ):
        folder = tmp_path / type(model).__name__
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
        found = load_extractor(f"transformers:{folder}", "cpu")(noise(2, 3, 40, 32))
        assert found.shape == (2, numbers)


def test_the_hash_of_a_vision_model_is_of_its_weights_and_processor(tmp_path: Path) -> None:
    folder = extractor_models.vision_model(tmp_path / "vit")

    def hash_now() -> str:
        return load_extractor(f"transformers:{folder}", "cpu").hash

    first = hash_now()
    copied = shutil.copytree(folder, tmp_path / "elsewhere" / "vit")
    assert load_extractor(f"transformers:{copied}", "cpu").hash == first
    assert load_extractor(f"transformers:{copied}", "cpu").name == "transformers:vit"
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = "embeddings.patch_embeddings.projection.bias"
    save_file({**weights, name: weights[name] + 1e-6}, file, {"format": "pt"})
    second = hash_now()
    described = folder / "preprocessor_config.json"
    told = json.loads(described.read_text())
    described.write_text(json.dumps(told | {"image_mean": [0.4, 0.5, 0.5]}))
    assert len({first, second, hash_now()}) == 3


@pytest.mark.filterwarnings("ignore")
def test_vision_models_that_cannot_be_are_refused(tmp_path: Path) -> None:
    folder = extractor_models.vision_model(tmp_path / "vit")
    weights = load_file(folder / "model.safetensors")
    less = {key: value for key, value in weights.items() if "layernorm" not in key}
    save_file(less, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks weights that it needs"):
        load_extractor(f"transformers:{folder}")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded as a vision model"):
        load_extractor(f"transformers:{folder}")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no config\.json and safetensors"):
        load_extractor(f"transformers:{folder}")
    for name in ("transformers", "transformers:nowhere", f"transformers:{__file__}"):
        with pytest.raises(InputError, match="names no model"):
            load_extractor(name)


def test_without_the_packages_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("transformers", "torch_fidelity"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"differential-diffusion\[maps\]"):
        load_extractor("transformers:some/model")
    with pytest.raises(MissingExtraError, match=r"differential-diffusion\[fidelity\]"):
        load_extractor("inception")


def test_inception_is_called_as_torch_fidelity_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = extractor_models.fake_inception(tmp_path, monkeypatch)
    made = load_extractor(f"inception:{weights}", "cpu")
    assert extractor_models.Inception.made == ("inception-v3-compat", ["2048"], str(weights))
    assert (made.name, made.size, made.is_inception) == ("inception", None, True)
    x = noise(2, 3, 20, 30)
    levels = ((x + 1) * 127.5).round().mean((2, 3))
    np.testing.assert_allclose(made(x), levels.numpy(), rtol=1e-5)


def test_inception_takes_the_published_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = extractor_models.fake_inception(tmp_path, monkeypatch)
    weights.write_bytes(b"others")
    with pytest.raises(InputError, match="is not the Inception that FID is defined with"):
        load_extractor(f"inception:{weights}")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"checkpoints/weights-inception-2015-12-05-6726825d\.pth"):
        load_extractor("inception")


def test_functions_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = extractor_models.OWN
    extractor_models.own_module(tmp_path, monkeypatch, text)
    x = noise(2, 3, 5, 7)
    made = load_extractor("mine:brightness")
    np.testing.assert_allclose(made(x), x.mean((2, 3)).numpy())
    assert (made.name, made.size) == ("mine:brightness", None)
    changed = text.replace("return x.mean((2, 3))\n", "return 2 * x.mean((2, 3))\n")
    extractor_models.own_module(tmp_path, monkeypatch, changed, "other")
    assert load_extractor("other:brightness").hash != made.hash
    extractor_models.own_module(
        tmp_path, monkeypatch, text + "brightness.size, brightness.hash = 4, 'v1'\n", "sized"
    )
    assert load_extractor("sized:brightness").size == 4
    for name, words in (
        ("mine:spoiled", "gives NaN or infinity"),
        ("mine:wrong", r"gives \(2, 3, 5, 7\) for 2 pictures"),
    ):
        with pytest.raises(InputError, match=words):
            load_extractor(name)(x)


def test_whatever_a_file_of_one_s_own_holds_tells_it_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "SCALE = 1\ndef means(x):\n    return SCALE * x.mean((2, 3))\n"
    for name, scale in (("first", 1), ("again", 1), ("changed", 2)):
        changed = text.replace("SCALE = 1", f"SCALE = {scale}")
        extractor_models.own_module(tmp_path, monkeypatch, changed, name)
    first, again, changed = (
        load_extractor(f"{name}:means").hash for name in ("first", "again", "changed")
    )
    assert first == again != changed


def test_a_network_of_one_s_own_gets_pictures_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands for one that pictures do not come from."""
    extractor_models.own_module(tmp_path, monkeypatch, _NETWORK, "network")
    x = noise(2, 3, 4, 4)
    np.testing.assert_allclose(load_extractor("network:made", "cpu")(x), x.flatten(1).numpy())
    seen = extractors._own("network:made", torch.device("meta")).features(x)
    assert seen.device.type == "meta"


_NETWORK = """
from torch import nn

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(__import__("torch").ones(1))

    def forward(self, x):
        assert x.device.type == self.scale.device.type
        return x.flatten(1) * self.scale

made = Flat()
"""


@pytest.mark.parametrize("text", ["def means(x:\n", "raise KeyError('far')\n", "1 / 0\n"])
def test_a_file_of_one_s_own_that_does_not_work_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    extractor_models.own_module(tmp_path, monkeypatch, text, "wrong")
    with pytest.raises(InputError, match=r"cannot be imported \((Syntax|Key|ZeroDivision)Error"):
        load_extractor("wrong:means")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vgg", "'vgg' is not known: use pixels, prior, inception, transformers"),
        ("pixels:0", "names no side"),
        ("pixels:big", "names no side"),
        ("prior:4", "at least 8"),
        ("no_such_package:function", "cannot be imported"),
        ("json:nothing", "cannot be imported"),
        ("json:__version__", "is no function|cannot be imported"),
        ("operator:itemgetter", "has no source"),
        ("/bin/ls", "is not known"),
    ],
)
def test_names_that_stand_for_none(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_extractor(name)
