"""Each step by itself, on photos whose answer is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from anystory.data.build.candidates import Candidate, Instance, Photo, Rejected
from anystory.data.build.fingerprints import FingerprintIndex, ImageFingerprint
from anystory.data.build.plan import Plan, default_plan, load_plan, with_settings
from anystory.data.build.steps.base import load_step
from anystory.data.build.steps.caption import Caption, CaptionOptions
from anystory.data.build.steps.compare import Compare, CompareOptions
from anystory.data.build.steps.filter import Filter, FilterOptions, sharpness
from anystory.data.build.steps.pair import Pair, PairOptions
from anystory.data.build.steps.segment import Segment, SegmentOptions
from data.build.folders import POSES, drawn, identity
from onnx_files import write_onnx

LOW = FilterOptions(least_side=64, least_sharpness=0)


def photo(name: str, rgb: np.ndarray, matte: np.ndarray | None = None, who: str = "ann", **more) -> Photo:
    size = (rgb.shape[0], rgb.shape[1])
    return Photo(name=name, rgb=rgb, instances=(Instance(name=who, matte=matte),), original=size, **more)


def cut(name: str, number: int, pose: str = "standing", **more) -> Photo:
    """A drawn character with its mask."""
    rgb = drawn(identity(number), pose)
    matte = (np.abs(rgb.astype(int) - rgb[0, 0]).max(axis=-1) > 0).astype(np.uint8) * np.uint8(255)
    return photo(name, rgb, matte, **more)


def candidate(*photos: Photo) -> Candidate:
    return Candidate(key="k", photos=photos)


def kept(result: list[Candidate] | Rejected) -> list[Candidate]:
    assert not isinstance(result, Rejected), result
    return result


def test_segment_finds_the_subject_and_says_where_there_is_none():
    truth = cut("a", 0)
    plain = photo("plain", np.full((96, 96, 3), 90, np.uint8))
    (result,) = kept(Segment(SegmentOptions())(candidate(photo("a", truth.rgb), plain, cut("masked", 1))))
    assert [one.name for one in result.photos] == ["a", "masked"]
    matte, known = result.photos[0].instances[0].matte, truth.instances[0].matte
    assert matte is not None
    assert known is not None
    both = np.count_nonzero((matte > 127) & (known > 127)) / np.count_nonzero((matte > 127) | (known > 127))
    assert both > 0.9
    assert [dropped.reason for dropped in result.dropped] == ["no_subject"]
    alone = Segment(SegmentOptions())(candidate(plain))
    assert isinstance(alone, Rejected)
    assert alone.reason == "no_subject"


def test_filter_names_what_is_wrong():
    good = cut("good", 0)
    matte = good.instances[0].matte
    assert matte is not None
    blurred = photo("blurred", cv2.GaussianBlur(good.rgb, (0, 0), 6), matte)
    tiny = np.zeros_like(matte)
    tiny[:6, :6] = 255
    found = Filter(FilterOptions(least_side=64, least_sharpness=20))(
        candidate(
            good,
            photo("small", good.rgb[:40, :40], np.full((40, 40), 255, np.uint8)),
            blurred,
            photo("again", cv2.resize(cv2.resize(good.rgb, (200, 200)), (96, 96)), matte),
            photo("little", drawn(identity(3), "sitting"), tiny),
            photo("filled", drawn(identity(4), "waving"), np.full_like(matte, 255)),
        )
    )
    (result,) = kept(found)
    assert [one.name for one in result.photos] == ["good"]
    assert {dropped.what: dropped.reason for dropped in result.dropped} == {
        "small": "small", "blurred": "blurred", "again": "duplicate", "little": "subject_small",
        "filled": "subject_large",
    }  # fmt: skip


def test_a_soft_background_is_no_blur():
    sharp = cut("a", 0)
    soft = sharp.rgb.copy()
    soft[:, :8] = np.linspace(0, 255, 96, dtype=np.uint8)[:, None, None]
    assert sharpness(sharp.rgb) > 20 > sharpness(cv2.GaussianBlur(sharp.rgb, (0, 0), 6))
    assert isinstance(Filter(LOW)(candidate(photo("a", soft, sharp.instances[0].matte))), list)


def test_copies_are_told_from_poses():
    one = drawn(identity(2), "standing")
    encoded = cv2.imencode(".jpg", cv2.resize(one, (61, 61)), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    stored = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert stored is not None
    assert ImageFingerprint.of(one).matches(ImageFingerprint.of(stored), 6)
    for pose in POSES[1:]:
        assert not ImageFingerprint.of(one).matches(ImageFingerprint.of(drawn(identity(2), pose)), 3)


def test_the_index_finds_what_comparing_with_each_would():
    rng = np.random.default_rng(0)
    pictures = [ImageFingerprint.of(drawn(identity(number), pose)) for number in range(6) for pose in POSES]
    pictures += [one._replace(hash=one.hash ^ (1 << int(rng.integers(64)))) for one in pictures]
    for bits in (-1, 0, 1, 3):
        seen = FingerprintIndex(bits)
        for number, one in enumerate(pictures):
            found = seen.find(one)
            twins = [str(i) for i, other in enumerate(pictures[:number]) if bits >= 0 and other.matches(one, bits)]
            assert (found in twins) if twins else found is None
            seen.add(one, str(number))


def test_every_photo_is_a_target_once_and_never_its_own_reference():
    photos = [cut(str(number), 0, pose) for number, pose in enumerate(POSES)]
    for per_target, references in ((1, 4), (1, 2), (2, 2), (2, 9)):
        made = kept(Pair(PairOptions(per_target=per_target, references=references))(candidate(*photos)))
        assert len(made) == len(photos) * per_target
        assert len({one.key for one in made}) == len(made)
        for first in range(0, len(made), per_target):
            group = made[first : first + per_target]
            used = [reference.name for one in group for photos_ in one.references or () for reference in photos_]
            assert len(used) == len(set(used)) == min(4, per_target * references)
            assert group[0].target.name not in used
    made = kept(Pair(PairOptions(targets=2))(candidate(*photos)))
    assert [one.target.name for one in made] == ["0", "2"]


def test_pairs_of_several_subjects_take_references_by_name():
    two = Photo(
        name="both", rgb=np.zeros((9, 9, 3), np.uint8), original=(9, 9),
        instances=tuple(Instance(name=who, matte=np.full((9, 9), 255, np.uint8)) for who in ("ann", "bob")),
    )  # fmt: skip
    others = [cut("b", 1, who="bob", target=False), cut("a", 0, who="ann", target=False)]
    (made,) = kept(Pair(PairOptions())(candidate(two, *others)))
    assert [[one.name for one in photos] for photos in made.references or ()] == [["a"], ["b"]]
    lonely = Pair(PairOptions())(candidate(two, others[0]))
    assert isinstance(lonely, Rejected)
    assert "ann in both" in lonely.detail
    (made,) = kept(Pair(PairOptions(same_picture=True))(candidate(two, others[0])))
    assert [len(photos) for photos in made.references or ()] == [0, 1]
    unmasked = Pair(PairOptions())(candidate(photo("x", two.rgb), *others))
    assert isinstance(unmasked, Rejected)
    assert "put the step `segment` before `pair`" in unmasked.detail


def paired(target: Photo, *references: Photo) -> Candidate:
    return Candidate(key="k", photos=(target,), references=(references,))


def test_compare_leaves_out_copies_and_strangers():
    target = cut("t", 0)
    step = Compare(CompareOptions())
    (result,) = kept(step(paired(target, cut("copy", 0), cut("pose", 0, "walking"), cut("bear", 2))))
    assert [one.name for one in (result.references or ((),))[0]] == ["pose"]
    assert [dropped.reason for dropped in result.dropped] == ["too_alike", "too_different"]
    nobody = step(paired(target, cut("copy", 0)))
    assert isinstance(nobody, Rejected)
    assert nobody.reason == "too_alike"
    kept(Compare(CompareOptions(alike=1, different=0))(paired(target, cut("copy", 0), cut("bear", 2))))
    assert kept(step(Candidate(key="k", photos=(target,), references=((),)))), "cut out of the target: not compared"


@pytest.mark.parametrize(
    ("name", "who", "expected"),
    [
        ("a/red_fox-in-the-snow 2.jpg", "x", "red fox in the snow"),
        ("a/IMG_2034.jpg", "my_dog", "my dog"),
        ("a/20240131_1200.jpg", "ann", "ann"),
        ("clip.mp4@3.00s", "clip", "clip"),
        ("DSC001.png", "1", ""),
    ],
)
def test_captions_from_names(name, who, expected):
    (result,) = kept(Caption(CaptionOptions())(candidate(cut(name, 0, who=who))))
    assert result.photos[0].caption == expected


def test_a_template_surrounds_names_but_not_what_people_wrote():
    step = Caption(CaptionOptions(template="a photo of {caption}"))
    (result,) = kept(step(candidate(cut("fox.jpg", 0), cut("b.jpg", 0, caption="written"))))
    assert [one.caption for one in result.photos] == ["a photo of fox", "written"]
    with pytest.raises(ValueError, match="must hold"):
        Caption(CaptionOptions(template="no place"))


def test_an_onnx_segmenter_and_cut_outs_that_are_not_certain_enough(tmp_path, monkeypatch):
    red = np.full((60, 80, 3), 90, np.uint8)
    red[10:50, 20:50] = (220, 30, 30)
    path = write_onnx(tmp_path / "u2netp.onnx")
    (result,) = kept(Segment(SegmentOptions(method=str(path)))(candidate(photo("a", red))))
    matte = result.photos[0].instances[0].matte
    assert matte is not None
    assert (matte[30, 35], matte[2, 2]) == (255, 0)
    unsure = write_onnx(tmp_path / "unsure-u2netp.onnx", weights=(1.5, -1, -1), offset=0)
    assert kept(Segment(SegmentOptions(method=str(unsure)))(candidate(photo("a", red))))
    left_out = Segment(SegmentOptions(method=str(unsure), least_confidence=0.5))(candidate(photo("a", red)))
    assert isinstance(left_out, Rejected)
    assert (left_out.reason, left_out.bad) == ("uncertain", False)
    assert "the cut-out of a is uncertain: confidence 0" in left_out.detail
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="`anystory models get silueta` says where to get it"):
        Segment(SegmentOptions(method="silueta"))


def test_a_segmentation_model_by_name(tmp_path):
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 8], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[1, 1], mlp_ratios=[1, 1], decoder_hidden_size=8, id2label={0: "background", 1: "fox"},
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config)
    torch.nn.init.zeros_(model.decode_head.classifier.weight)
    model.decode_head.classifier.bias = torch.nn.Parameter(torch.tensor([-9.0, 9.0]))  # every pixel is a fox's
    model.save_pretrained(tmp_path)
    SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    step = Segment(SegmentOptions(method=str(tmp_path)))
    (result,) = kept(step(candidate(photo("a", drawn(identity(0), "standing")))))
    matte = result.photos[0].instances[0].matte
    assert matte is not None
    assert matte.min() == 255
    with pytest.raises(ValueError, match="cannot be used as an image-segmentation model"):
        Segment(SegmentOptions(method=str(tmp_path / "nothing")))


def test_an_image_model_compares(tmp_path):
    """A tiny DINOv2 with random weights: equal pictures have cosine 1, and the thresholds are applied to it."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path)
    BitImageProcessor(size={"height": 28, "width": 28}, do_center_crop=False).save_pretrained(tmp_path)
    step = Compare(CompareOptions(model=str(tmp_path), alike=0.999999, different=0))
    (result,) = kept(step(paired(cut("t", 0), cut("copy", 0), cut("bear", 2))))
    assert [one.name for one in (result.references or ((),))[0]] == ["bear"]
    with pytest.raises(ValueError, match="similarity model .* cannot be loaded"):
        Compare(CompareOptions(model=str(tmp_path / "nothing")))


def test_a_captioning_model_by_name(tmp_path):
    """A tiny BLIP with random weights says the same words for the same picture."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )  # fmt: skip

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(40))]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = BertTokenizerFast(tokenizer_object=raw)
    text = {"vocab_size": len(words), "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 16,
            "projection_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "bos_token_id": 2,
            "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 16, "projection_dim": 16}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)  # with some weights the first word is the text's end
        model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(tmp_path)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(tmp_path)
    step = Caption(CaptionOptions(model=str(tmp_path), most_tokens=5, template="{caption}!"))
    first, second = (kept(step(candidate(cut("a", 0))))[0].photos[0].caption for _ in range(2))
    assert first == second
    assert set(first.rstrip("!").split()) <= set(words)
    assert first.endswith("!")
    with pytest.raises(ValueError, match="caption model .* cannot be loaded"):
        Caption(CaptionOptions(model=str(tmp_path / "nothing")))


def test_plans_are_checked_and_changed_by_settings(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("source: {kind: videos, seconds: 3}\nsteps:\n- segment\n- filter: {least_side: 9}\nheldout: 0.5\n")
    plan = with_settings(load_plan(path), ["filter.least_side=12", "source.frames=4", "write.format=png", "credit=me"])
    assert plan.steps == (("segment", {}), ("filter", {"least_side": 12}))
    assert (plan.source, plan.write.format, plan.heldout, plan.credit) == (
        {"kind": "videos", "seconds": 3, "frames": 4}, "png", 0.5, "me",
    )  # fmt: skip
    assert plan.make_source(Path()).options.seconds == 3
    assert plan.digest() != with_settings(load_plan(path), []).digest()
    assert Plan.model_validate_json(plan.model_dump_json()).digest() == plan.digest()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["filter.least_side"], "expected `step.option=value`"),
        (["filter.least_size=3"], "least_size.*Its options are: least_side"),
        (["filter.least_side=-3"], "least_side"),
        (["sharpen.by=3"], "no step 'sharpen', but segment, filter, pair, compare, caption"),
        (["source.kind=photos"], "there is no source 'photos': use subjects, videos, scenes"),
        (["steps=[sharpen]"], "there is no step 'sharpen': use segment"),
        (["steps=[nowhere:Step]"], "cannot be imported"),
        (["steps=[{a: 1, b: 2}]"], "a step is its name"),
        (["heldout=2"], "heldout"),
        (["speed=2"], "speed"),
    ],
)
def test_plans_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        with_settings(default_plan("subjects"), settings).digest()


def test_a_step_of_ones_own_needs_what_steps_have():
    with pytest.raises(ValueError, match="lacks version, Options, __call__: see"):
        load_step("pathlib:Path")
    with pytest.raises(ValueError, match="step 'os:getcwd' is not a class"):
        load_step("os:getcwd")


FAULTY = """
from pydantic import field_validator
from anystory.data.build.sources.base import BuildOptions

class Faulty:
    name, version, Options = "faulty", 1, BuildOptions

    def __init__(self, options):
        self.options = {}["mode"]

    def __call__(self, candidate):
        return [candidate]

class NoOptions(Faulty):
    Options = dict

class Checked(BuildOptions):
    side: int = 1

    @field_validator("side")
    @classmethod
    def check(cls, value):
        return [1][value]

class BadlyChecked(Faulty):
    Options = Checked
"""


def test_faults_of_a_step_of_ones_own_are_sentences(tmp_path, monkeypatch):
    (tmp_path / "faulty_step.py").write_text(FAULTY)
    (tmp_path / "torn_step.py").write_text("def half(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    for step, words in (
        ("faulty_step:Faulty", r"step faulty cannot be made with the options BuildOptions\(\) \(KeyError: 'mode'\)"),
        ("faulty_step:NoOptions", "its Options must be a subclass of `anystory.data.build.sources.base.BuildOptions`"),
        ({"faulty_step:BadlyChecked": {"side": 5}}, r"its options cannot be checked \(IndexError: list index"),
        ("torn_step:Half", r"step 'torn_step:Half' cannot be imported \(SyntaxError: invalid syntax"),
    ):
        with pytest.raises(ValueError, match=words):
            Plan.model_validate({"steps": [step]}).make_steps()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source: subjects\n", "`source` is a mapping, as `{kind: subjects}`"),
        ("write: png\n", "`write` is a mapping"),
        ("steps: 5\n", "steps are a list"),
        ("steps: {segment: {}}\n", "steps are a list"),
    ],
)
def test_a_plan_of_another_shape_is_told(tmp_path, text, words):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    for settings in ([], ["source.longest=64", "filter.least_side=1", "write.quality=9"]):
        with pytest.raises(ValueError, match=words):
            with_settings(load_plan(path), settings)


def test_a_setting_that_is_no_yaml_is_told():
    with pytest.raises(ValueError, match=r"--set filter\.least_side=\[1: .* is not a YAML"):
        with_settings(default_plan("subjects"), ["filter.least_side=[1"])
