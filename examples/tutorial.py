# %% [markdown]
# # Train a diffusion model of your own
#
# From a noise schedule to samples you can steer, on the 8 x 8 digits of scikit-learn, in well under
# half an hour on two CPU cores. Needs `pip install 'differential-diffusion[train]' scikit-learn`.

# %%
import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import differential_diffusion as dd
from differential_diffusion.engine import draw_samples, sample_grid
from differential_diffusion.training import load_config, train

WORK = Path(os.environ.get("TUTORIAL_FOLDER", "tutorial"))
SHARE = float(os.environ.get("TUTORIAL_SHARE", "1"))  # of the training steps
WORK.mkdir(parents=True, exist_ok=True)


def show(name, pictures, columns):
    """Write pictures (H,W,1) as a grid, ten times as large."""
    grid = sample_grid(pictures, columns)[..., 0]
    picture = Image.fromarray(grid).resize((8 * grid.shape[1], 8 * grid.shape[0]), 0)
    picture.save(WORK / f"{name}.png")
    return picture


def pixels(x):
    """A batch (B,1,H,W) in [-1,1] as pictures."""
    return list(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


digits = load_digits()
x = torch.from_numpy(digits.images).float()[:, None] / 8 - 1
print(len(x), "digits of", tuple(x.shape[1:]))

# %% [markdown]
# ## 1. Choose a noise schedule
#
# Diffusion adds noise of rising deviation σ. `noise_schedule` tells σ of a timestep, and
# `forward_diffusion` puts that much noise on a picture.

# %%
steps_shown = torch.tensor([0, 100, 200, 300, 450, 600, 800, 999])
print({int(t): round(float(dd.noise_schedule(t)), 2) for t in steps_shown})
torch.manual_seed(0)
noisy = dd.forward_diffusion(x[:1].expand(len(steps_shown), -1, -1, -1), steps_shown)
alpha = (1 + dd.noise_schedule(steps_shown) ** 2).rsqrt().view(-1, 1, 1, 1)
show("noise", pixels(alpha * torch.Tensor(noisy)), len(steps_shown))

# %% [markdown]
# ## 2. Design a network and train it
#
# The loop that every tutorial shows: noise a batch, have the network predict what was added, take a
# step. `DiffusionModel` is a small U-Net with its loss; the optimizer and the loop are plain PyTorch.

# %%
num_epochs = max(1, round(40 * SHARE))
model = dd.DiffusionModel(channels=1, size=8, width=32)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
noise = torch.randn(10, 1, 8, 8)
progress = []
for epoch in range(num_epochs):
    losses = []
    for batch in x[torch.randperm(len(x))].split(64):
        t = model.timesteps_for(batch)
        noisy_x = dd.forward_diffusion(batch, t)
        loss = model.loss(noisy_x, t)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    if epoch in (0, num_epochs // 8, num_epochs // 2, num_epochs - 1):
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")
        progress += pixels(model.reverse_diffuse(noise, steps=100))

# %% [markdown]
# ## 3. Generate
#
# From pure noise back to pictures. The rows are from the same noise after more and more training.

# %%
show("progress", progress, 10)

# %%
generated_image = model.reverse_diffuse(torch.randn(1, 1, 8, 8), steps=1000)
show("generated", pixels(generated_image), 1)

# %% [markdown]
# ## 4. The same at full size
#
# A run is a YAML file: any objective, classes, strength maps for each pixel, resumable, on one core or
# many machines. Here the network also learns the classes, from the names of folders.

# %%
folder = WORK / "digits"
for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    path = folder / str(label) / f"{number:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 255 / 16).round().astype(np.uint8)).save(path)

steps = max(4, round(2000 * SHARE))
(WORK / "run.yaml").write_text(f"""
output: {json.dumps(str(WORK / "run"))}
data:
  path: {json.dumps(str(folder))}
  channels: 1
  labels: folders
  cut: fit
  patch_size: 8
  symmetries: none
  validation: 128
steps: {steps}
batch_size: 64
network: {{channels: [48, 96], blocks: [2, 2], patch: 1, attention: [1], embedding_channels: 48}}
noise: {{mean: -1.0, sigma_max: 40, coloured: 0, uniform: 0.7, smooth: 0.1, holes: 0.1, paths: 0.1}}
optimizer: {{warmup_steps: 50, ema_halflife: 100, decay: 0.5}}
validation: {{every: {steps // 4}, crop: 8}}
checkpoint: {{every: {steps // 4}, keep: 4}}
""")


def tell(progress):
    if progress.metrics:
        print(progress.step, {k: round(v, 3) for k, v in progress.metrics.items() if "loss" in k})


final = train(load_config(WORK / "run.yaml"), on_step=tell, on_note=print)

# %% [markdown]
# Samples of each class, by checkpoint: one row for each, guided towards the class.

# %%
rows = []
for checkpoint in sorted((WORK / "run" / "checkpoints").iterdir()):
    trained = dd.load_model(checkpoint)
    drawn = draw_samples(trained, 10, labels=list(trained.classes), guidance_scale=1.5)
    rows += [sample.pixels for sample in drawn]
show("classes", rows, 10)

# %% [markdown]
# ## 5. Edit with a strength map
#
# Every pixel has its own strength. Keep the left half of each digit to the bit, and have the right half
# drawn anew as another digit would have it.

# %%
trained = dd.load_model(final)
strength = torch.zeros(1, 1, 8, 8)
strength[..., 4:] = 1
kept = []
for number in (0, 1, 2, 3):
    source = x[number : number + 1]
    variants = draw_samples(trained, 5, labels=[int(digits.target[number])], image=source,
                            strength=strength, solver="ancestral")  # fmt: skip
    made = [sample.pixels for sample in variants]
    original = pixels(source)[0]
    assert all((one[:, :4] == original[:, :4]).all() for one in made)
    kept += [original, *made]
show("edited", kept, 6)

# %% [markdown]
# ## 6. Evaluate and refine
#
# How near is the law of the samples to that of the digits? The sliced Wasserstein distance compares
# projections; two halves of the digits themselves are the mark to reach.


# %%
def sliced_distance(a, b):
    """Mean distance of sorted projections, of pictures as rows."""
    count = min(len(a), len(b))
    axes = np.random.default_rng(0).standard_normal((a.shape[1], 200))
    axes /= np.linalg.norm(axes, axis=0)
    return np.abs(np.sort(a[:count] @ axes, 0) - np.sort(b[:count] @ axes, 0)).mean()


order = np.random.default_rng(1).permutation(len(x))
real = x.flatten(1).numpy()[order]
half = sliced_distance(real[:898], real[898:])
results = {}
for steps in (3, 6, 12, 25):
    drawn = [
        s.pixels for s in draw_samples(trained, 898, labels=list(trained.classes), steps=steps)
    ]
    made = np.stack(drawn).reshape(len(drawn), -1) / 127.5 - 1
    results[steps] = round(float(sliced_distance(made, real[:898]) / half), 2)
print("distance over that of two halves, by steps:", results)

# %% [markdown]
# `overfitting.json` in the run's folder says whether the model learnt its pictures by heart, and
# `diffdiff evaluate` measures with named features. More steps, more width and more pictures refine it.

# %%
print(json.loads((WORK / "run" / "overfitting.json").read_text())["sentence"])
