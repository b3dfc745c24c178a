"""Pictures and texts as vectors: the published preprocessing, real layouts, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, Dinov2Model, ViTModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from anystory.subjects.image_encoders import ClipEncoder, DinoEncoder, cropped_pixels
from evaluation.metrics.encoder_files import write_clip, write_dino, write_dinov2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    made = {"clip": write_clip, "dino": write_dino, "dinov2": write_dinov2}
    return {name: write(root / name) for name, write in made.items()}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8))


def test_a_picture_is_prepared_as_dino_was_published():
    """The same as DINOv2's own image processor: 256, middle 224, ImageNet's mean."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs = BitImageProcessorPil(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, image_mean=mean, image_std=std
    )
    for size in ((300, 200), (70, 80), (224, 224)):
        picture = noise(*size)
        wanted = theirs(images=picture, return_tensors="np").pixel_values[0]
        assert np.abs(cropped_pixels(picture) - wanted).max() < 0.02


def test_features_are_the_class_token(folders):
    pixels = torch.from_numpy(cropped_pixels(noise(64, 48)))[None]
    plain = {
        "dino": ViTModel.from_pretrained(folders["dino"]),
        "dinov2": Dinov2Model.from_pretrained(folders["dinov2"]),
    }
    for name, net in plain.items():
        with torch.inference_mode():
            wanted = net.eval()(pixels).last_hidden_state[0, 0].double().numpy()
        found = DinoEncoder(folders[name]).pictures([noise(64, 48)])
        assert np.allclose(found[0], wanted / np.linalg.norm(wanted), atol=1e-5)


def test_clip_sees_and_reads(folders):
    encoder = ClipEncoder(folders["clip"])
    pictures = [noise(40, 30, seed) for seed in range(3)]
    found = encoder.pictures(pictures)
    texts = encoder.texts(["a fox", "a robot on a very long and winding road to nowhere"])
    assert found.shape == (3, 16)
    assert np.allclose(np.linalg.norm(np.concatenate([found, texts]), axis=1), 1)
    assert np.allclose(found[1], encoder.pictures(pictures[1:2])[0], atol=1e-6), "a picture's features are its own"
    model = CLIPModel.from_pretrained(folders["clip"]).eval()
    tokens = encoder._text.processor(["a fox"], return_tensors="pt")
    with torch.inference_mode():
        wanted = model.get_text_features(**tokens)
    wanted = getattr(wanted, "pooler_output", wanted)[0].double().numpy()
    assert np.allclose(texts[0], wanted / np.linalg.norm(wanted), atol=1e-5)
    assert encoder.pictures([]).shape[0] == 0


def test_what_is_no_encoder_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match=r"of type clip, expected one of vit, dinov2, .*--dino"):
        DinoEncoder(folders["clip"], otherwise="name one with --dino")
    with pytest.raises(ValueError, match=r"DINO model '.*nowhere' cannot be loaded"):
        DinoEncoder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"CLIP model '.*dino' cannot be loaded"):
        ClipEncoder(folders["dino"])


def test_weights_that_are_missing_are_no_random_numbers(folders):
    """A ViT without its pooler, loaded with one, would be compared by noise."""
    from anystory.subjects.image_models import load_model

    with pytest.raises(ValueError, match=r"lack 2 weights, pooler\.dense\.bias among them"):
        load_model("similarity", str(folders["dino"]), None, "AutoModel", "leave it out")


def test_a_part_of_a_model_is_loaded_without_a_report(folders, capsys):
    ClipEncoder(folders["clip"]).texts(["a fox"])
    captured = capsys.readouterr()
    assert "UNEXPECTED" not in captured.out + captured.err
