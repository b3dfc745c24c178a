"""The cache: what it holds equals what is computed afresh, and it knows what it was made from."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anystory.data.shards.writer import ShardWriter
from anystory.data.stream.cache import INDEX_NAME, SampleCache
from anystory.data.stream.cache_writer import hash_weights, write_cache
from anystory.data.stream.training_set import TrainingSet
from anystory.training.data.stream import stream_batches
from data.samples import make_sample

SETTINGS: dict[str, Any] = {
    "resolution": 32,
    "reference_size": 16,
    "max_subjects": 2,
    "fixed_crop": True,
    "bad_limit": 1,
}


class Encoders:
    """A convolution for pictures and a table of embeddings for the caption's letters; counts its calls."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.vae, self.text = nn.Conv2d(3, 4, 8, 8), nn.Embedding(256, 6)
        self.calls = 0

    @property
    def hashes(self) -> dict[str, str]:
        return {"vae": hash_weights(self.vae.state_dict()), "text": hash_weights(self.text.state_dict())}

    @torch.no_grad()
    def __call__(self, targets: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.calls += 1
        pixels = torch.stack([torch.as_tensor(target["image"]) for target in targets]).permute(0, 3, 1, 2) / 255
        letters = torch.tensor([list(target["caption"].encode()[:4]) for target in targets])
        return {"latents": self.vae(pixels).to(torch.bfloat16), "text": self.text(letters)}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Ten samples, number 4 without a picture."""
    with ShardWriter(tmp_path / "shards", "set", max_samples=4) as writer:
        for i in range(10):
            record, files = make_sample(f"k{i}", subjects=1 + i % 2, caption=f"k{i} words")
            if i == 4:
                files[record.image] = b""
            writer.add(record, files.__getitem__)
    return tmp_path / "shards"


def test_cached_samples_equal_computed_ones(shards: Path, tmp_path: Path) -> None:
    encoders = Encoders()
    plain = TrainingSet(shards, **SETTINGS)
    write_cache(tmp_path / "cache", plain, encoders, encoders=encoders.hashes, batch_size=2, part_rows=3)
    cache = pickle.loads(pickle.dumps(SampleCache.open(tmp_path / "cache", encoders=encoders.hashes)))
    assert len(cache) == 10
    cached = TrainingSet(shards, **SETTINGS, cache=cache)
    for position in range(25):
        wanted, found = plain(position), cached(position)
        wanted |= {name: tensor[0] for name, tensor in encoders([wanted]).items()}
        wanted.pop("image")
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == found[key].dtype
                # A convolution of a batch may differ from one of a single picture in the last bit.
                torch.testing.assert_close(found[key], value)
            else:
                assert np.array_equal(value, found[key]), key
                assert getattr(value, "dtype", None) == getattr(found[key], "dtype", None)


def test_the_loader_stacks_cached_samples(shards: Path, tmp_path: Path) -> None:
    encoders = Encoders()
    cache = write_cache(tmp_path / "cache", TrainingSet(shards, **SETTINGS), encoders, encoders=encoders.hashes)
    batch = next(stream_batches(TrainingSet(shards, **SETTINGS, cache=cache), start=0, batch_size=3, workers=1))
    assert (batch["latents"].shape, batch["latents"].dtype) == ((3, 4, 4, 4), torch.bfloat16)
    assert batch["instances"].shape == (3, 32, 32)


def test_a_killed_run_goes_on(shards: Path, tmp_path: Path) -> None:
    encoders = Encoders()
    data = TrainingSet(shards, **SETTINGS)
    options: dict[str, Any] = {"encoders": encoders.hashes, "batch_size": 3, "part_rows": 3}
    write_cache(tmp_path / "whole", data, encoders, **options)
    assert encoders.calls == 4

    def killed(done: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cache(tmp_path / "parts", data, encoders, **options, seen=killed)
    with pytest.raises(ValueError, match="is not finished"):
        SampleCache.open(tmp_path / "parts", encoders=encoders.hashes)
    before = encoders.calls
    write_cache(tmp_path / "parts", data, encoders, **options)
    assert encoders.calls == before + 2
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
    before = encoders.calls
    write_cache(tmp_path / "parts", data, encoders, **options)  # finished: nothing to do
    assert encoders.calls == before
    other = Encoders(seed=1)
    (tmp_path / "parts" / INDEX_NAME).unlink()
    with pytest.raises(ValueError, match="the beginning of another cache: the encoder text is"):
        write_cache(tmp_path / "parts", data, other, **{**options, "encoders": other.hashes})


def test_several_processes_write_the_same_files(shards: Path, tmp_path: Path) -> None:
    encoders, data = Encoders(), TrainingSet(shards, **SETTINGS)
    options: dict[str, Any] = {"encoders": encoders.hashes, "batch_size": 2, "part_rows": 3}
    write_cache(tmp_path / "one", data, encoders, **options)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for name in (INDEX_NAME, "part-00000.safetensors", "part-00002.safetensors"):  # as if killed, and one deleted
        (tmp_path / "two" / name).unlink()
    told: list[int] = []
    write_cache(tmp_path / "two", data, encoders, **options, workers=2, seen=told.append)
    assert told == [3, 6, 9, 10]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_too_many_bad_samples_stop_the_writing(shards: Path, tmp_path: Path) -> None:
    strict: dict[str, Any] = SETTINGS | {"bad_limit": 0.05}
    encoders, data = Encoders(), TrainingSet(shards, **strict)
    words = r"too many bad samples: 1 of 5 samples are bad .*At most 5\.0% of all 10 may be bad"
    for workers in (0, 1):
        with pytest.raises(ValueError, match=words):
            write_cache(tmp_path, data, encoders, encoders=encoders.hashes, part_rows=3, workers=workers)
    assert [path.name for path in tmp_path.glob("part-*")] == ["part-00000.safetensors"]
    # Those of parts that are there count, too.
    allowed = TrainingSet(shards, **SETTINGS)
    write_cache(tmp_path, allowed, encoders, encoders=encoders.hashes, part_rows=3)
    (tmp_path / INDEX_NAME).unlink()
    with pytest.raises(ValueError, match=words):
        write_cache(tmp_path, data, encoders, encoders=encoders.hashes, part_rows=3)


def test_a_stale_cache_is_refused_and_says_why(shards: Path, tmp_path: Path) -> None:
    encoders = Encoders()
    write_cache(tmp_path / "cache", TrainingSet(shards, **SETTINGS), encoders, encoders=encoders.hashes)
    with pytest.raises(ValueError, match=r"is stale.*the encoder vae is .{12}… there and 00.*here\. Write"):
        SampleCache.open(tmp_path / "cache", encoders=encoders.hashes | {"vae": "0" * 64})
    with pytest.raises(ValueError, match="the encoder text is .* there and missing here"):
        SampleCache.open(tmp_path / "cache", encoders={"vae": encoders.hashes["vae"]})
    cache = SampleCache.open(tmp_path / "cache", encoders=encoders.hashes)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"resolution": 24}, "resolution is 32 there and 24 here"),
        ({"seed": 7}, "seed is 0 there and 7 here"),
        ({"flip": True}, "flip is false there and true here"),
        ({"fixed_crop": False}, "fixed_crop=True"),
    ]
    for changes, words in cases:
        with pytest.raises(ValueError, match=words):
            TrainingSet(shards, **(SETTINGS | changes), cache=cache)
    with ShardWriter(shards, "set", max_samples=4) as writer:
        record, files = make_sample("new")
        writer.add(record, files.__getitem__)
    with pytest.raises(ValueError, match=r"shard 000003 set-000003\.tar is missing there and"):
        TrainingSet(shards, **SETTINGS, cache=cache)


def test_a_damaged_cache_is_refused(shards: Path, tmp_path: Path) -> None:
    encoders = Encoders()
    folder = tmp_path / "cache"
    write_cache(folder, TrainingSet(shards, **SETTINGS), encoders, encoders=encoders.hashes)
    shutil.copytree(folder, tmp_path / "copy")
    (folder / "part-00000.safetensors").write_bytes(b"x")
    (tmp_path / "copy" / INDEX_NAME).write_text("{}")
    for path, words in (
        (folder, "is damaged"),
        (tmp_path / "copy", "no index of a cache"),
        (tmp_path / "no", "does not"),
    ):
        with pytest.raises(ValueError, match=words):
            SampleCache.open(path, encoders=encoders.hashes)


def test_what_cannot_be_cached_is_refused(shards: Path, tmp_path: Path) -> None:
    data = TrainingSet(shards, **SETTINGS)
    with pytest.raises(ValueError, match="named 'instances', which a sample has already"):
        write_cache(tmp_path, data, lambda batch: {"instances": torch.zeros(len(batch))}, encoders={})
    with pytest.raises(ValueError, match="returned 1 rows of 'x' for 8 samples"):
        write_cache(tmp_path, data, lambda batch: {"x": torch.zeros(1)}, encoders={})
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        write_cache(tmp_path, data, Encoders(), encoders={}, batch_size=0)


def test_the_hash_of_weights_knows_values_names_and_types() -> None:
    weight = torch.arange(4.0)
    others = [{"a": weight + 1}, {"b": weight}, {"a": weight.half()}, {"a": weight.view(2, 2)}]
    assert len({hash_weights(w) for w in ({"a": weight}, *others)}) == 5
    assert hash_weights({"a": weight.clone(), "b": weight}) == hash_weights({"b": weight, "a": weight})
    assert hash_weights({"a": torch.tensor(1.0, dtype=torch.bfloat16)}) != hash_weights({"a": torch.tensor(1.0)})


def test_parts_that_were_cut_in_other_places_are_made_again(shards: Path, tmp_path: Path) -> None:
    """Ten samples in parts of 4, 4 and 2: the last of these must not become the third of five parts of 2."""
    encoders, data = Encoders(), TrainingSet(shards, **SETTINGS)
    for folder, rows in (("cache", 4), ("cache", 2), ("fresh", 2)):
        (tmp_path / folder / INDEX_NAME).unlink(missing_ok=True)
        write_cache(tmp_path / folder, data, encoders, encoders=encoders.hashes, part_rows=rows)
    for path in (tmp_path / "fresh").iterdir():
        assert path.read_bytes() == (tmp_path / "cache" / path.name).read_bytes()
