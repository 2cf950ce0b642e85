"""Which settings a run that goes on may change."""

from __future__ import annotations

from typing import Any

from .config import RunConfig

# What a resumed run may change: nothing of it decides what a step computes, but for `steps`
# (training longer) and the schedule that ends with them.
_FREE = {
    "output",
    "steps",
    "compile",
    "gradient_checkpointing",
    "init_from",
    "validation",
    "checkpoint",
    "tracking",
}
_PATHS = {"data.vectors", "data.pictures"}  # may lie elsewhere, but neither come nor go
_ONCE = {"noise.mean": -1.4, "noise.deviation": 1.2}  # what was stored where now None is
_FREE_KEYS = {
    "data.path",
    "data.split",
    "data.max_skipped",
    "data.workers",
    "latent.codec",  # of which the digest of a run's pictures tells
    "latent.cache",
    "optimizer.decay",
}


def changed_key(stored: dict[str, Any], config: RunConfig) -> str | None:
    """The first setting in which a run's stored configuration differs, as 'section.key'.

    Settings that a resumed run may change do not count; neither do keys that `stored` lacks.
    """
    now, idle = config.model_dump(mode="json", exclude=_FREE), _idle(config)
    for section, value in now.items():
        before = stored.get(section, value)
        if not (isinstance(value, dict) and isinstance(before, dict)):
            if before != value:
                return section
            continue
        for name, entry in value.items():
            key = f"{section}.{name}"
            was, entry = (
                _ONCE.get(key) if one is None else one for one in (before.get(name, entry), entry)
            )
            if key in _PATHS and was is not None and entry is not None:
                continue
            if key not in _FREE_KEYS | idle and was != entry:
                return key
    return None


def _idle(config: RunConfig) -> set[str]:
    """Settings that change nothing beside others, so that it does not matter what they were."""
    data = config.data
    idle = {
        "data.symmetries": data.augmentation > 0,
        "data.unlabelled": data.labels == "none",
        "noise.coloured": data.channels != 3,
    }
    return {key for key, is_idle in idle.items() if is_idle}
