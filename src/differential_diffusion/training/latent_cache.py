"""Latents on disk: shards of safetensors, and an index that says what they are of.

    index.json               codec, pictures, size, symmetries; each shard's checksum and keys
    latents-00000.safetensors

The index is written after each shard, so that encoding that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import InputError
from ..files import write_atomically

INDEX_FILE = "index.json"
FORMAT = "differential-diffusion-latents/1"
SHARD_BYTES = 1 << 28

_DRAFTS = f".{INDEX_FILE}.*.part", ".latents-*.part"  # of `files.write_atomically`
_REMEDY = "remove that folder, or name another with latent.cache"


@dataclass(frozen=True)
class Identity:
    """What latents are of.

    Attributes:
        codec: fingerprint of its weights.
        pictures: digest of their names and pixels, at that size.
        size: pixels of the shorter side that they were brought to; None if they were not.
        symmetries: under which they were encoded.
    """

    codec: str
    pictures: str
    size: int | None
    symmetries: str

    @property
    def digest(self) -> str:
        """All of it in one."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


class LatentCache:
    """Latents by name in a folder.

    Args:
        folder: made if it is not there.
        identity: of what is wanted.

    Raises:
        InputError: for a folder that holds something else, or cannot be made or read.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder, self.identity = folder, identity
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for pattern in _DRAFTS:  # of a run that was killed while it wrote
                for draft in folder.glob(pattern):
                    draft.unlink(missing_ok=True)
            empty = next(folder.iterdir(), None) is None
        except OSError as error:
            raise InputError(
                f"the cache '{folder}' cannot be made ({error.strerror}): name another folder with "
                "latent.cache"
            ) from None
        self.shards: list[dict[str, Any]] = []
        if not empty:
            self._read()
        self.known = {name for shard in self.shards for name in shard["keys"]}

    def __contains__(self, name: str) -> bool:
        return name in self.known

    def _read(self) -> None:
        path = self.folder / INDEX_FILE
        if not path.is_file():
            raise InputError(
                f"the folder '{self.folder}' holds files that are no cache of latents: name "
                "another with latent.cache"
            )
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            form, of = index["format"], Identity(**index["of"])
            self.shards = [
                {"file": str(s["file"]), "sha256": str(s["sha256"]), "keys": list(s["keys"])}
                for s in index["shards"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"'{path}' is damaged: {_REMEDY}") from None
        own = self.identity
        differences = {
            "in another format": form != FORMAT,
            "of another codec": of.codec != own.codec,
            f"of pictures {_sized(of.size)}, not {_sized(own.size)}": of.size != own.size,
            f"under the symmetries '{of.symmetries}', not '{own.symmetries}'": of.symmetries
            != own.symmetries,
            "of other pictures": of.pictures != own.pictures,  # last: at another size they are
        }
        for what, differs in differences.items():
            if differs:
                raise InputError(f"the cache '{self.folder}' holds latents {what}: {_REMEDY}")

    def fill(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Write latents that are not there yet, shard by shard.

        Raises:
            InputError: if the disk is full.
        """
        if not self.shards:
            self._write_index()
        waiting: dict[str, Tensor] = {}
        try:
            for batch in batches:
                waiting |= batch
                if sum(one.nbytes for one in waiting.values()) >= SHARD_BYTES:
                    full, waiting = waiting, {}
                    self._write_shard(full)
        finally:  # stopped or not, what was encoded is kept
            if waiting:
                self._write_shard(waiting)

    def _write_shard(self, tensors: dict[str, Tensor]) -> None:
        file = f"latents-{len(self.shards):05d}.safetensors"
        content = save(tensors)
        write_atomically(self.folder / file, content)
        checksum = hashlib.sha256(content).hexdigest()
        self.shards.append({"file": file, "sha256": checksum, "keys": sorted(tensors)})
        self._write_index()

    def _write_index(self) -> None:
        index = {"format": FORMAT, "of": asdict(self.identity), "shards": self.shards}
        write_atomically(self.folder / INDEX_FILE, (json.dumps(index, indent=1) + "\n").encode())

    def load(self) -> dict[str, Tensor]:
        """All latents by name.

        Raises:
            InputError: naming a shard that is missing or damaged.
        """
        found: dict[str, Tensor] = {}
        for shard in self.shards:
            path = self.folder / shard["file"]
            try:
                content = path.read_bytes()
                whole = hashlib.sha256(content).hexdigest() == shard["sha256"]
                found |= load(content) if whole else {}
            except (OSError, SafetensorError):
                whole = False
            if not whole:
                raise InputError(f"'{path}' is missing or damaged: {_REMEDY}")
        return found


def _sized(size: int | None) -> str:
    return "of their own size" if size is None else f"of {size} pixels"
