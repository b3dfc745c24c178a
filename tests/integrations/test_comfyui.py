"""ComfyUI's nodes: real workflows through a small executor with ComfyUI's rules, real models, no mocks."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anystory.cast import Library
from anystory.engine.drawing import draw, draw_into
from anystory.engine.job import Job, SubjectFiles
from anystory.engine.replay import restore
from anystory.subjects.pictures import load_picture
from integrations.comfy_graph import Refused, refusals, run
from integrations.conftest import PACK
from pipelines.helpers import SIZE

WORKFLOWS = ("two_subjects", "cast_and_regions", "segment", "flux")


@pytest.fixture(scope="module")
def loaded(pack, tiny):
    """The tiny model on a wire."""
    [model] = pack.NODE_CLASS_MAPPINGS["AnyStoryModel"]().load(str(tiny))
    return model


@pytest.fixture
def subject(nodes):
    """Gives a subject on a wire: a red disc."""

    def give(name="fox", **more):
        y, x = np.mgrid[:40, :40]
        disc = torch.from_numpy(((x - 20) ** 2 + (y - 20) ** 2 < 200).astype(np.float32))[None]
        image = torch.stack((disc, disc * 0.2, disc * 0.2), dim=-1)
        return nodes["AnyStorySubject"]().give(image, name, mask=disc, **more)

    return give


def test_two_subjects_are_drawn_and_their_record_draws_them_again(workflow, nodes, tiny, folder, tmp_path):
    flow = workflow("two_subjects", tiny, n8__prompt="a fox", n8__batch_size=2)
    outputs, shown = run(flow, nodes)
    [images], [masks], [pictures] = outputs["8"]
    assert images.shape == (2, SIZE, SIZE, 3)
    assert masks.shape == (4, SIZE, SIZE)
    [mask] = outputs["10"][0]
    assert mask.shape == (2, SIZE, SIZE)
    expected = pictures.pictures[1].routing.mean()[0]
    np.testing.assert_array_equal(mask[1], expected)
    kept = [tmp_path / "output" / one["subfolder"] / one["filename"] for one in shown["15"]["images"]]
    assert [path.name for path in kept] == ["0001.png", "0002.png"]
    for path, image, seed in zip(kept, images, (7, 8), strict=True):
        np.testing.assert_array_equal(load_picture(path).rgb, (image.numpy() * 255).round())
        restored = restore(path.with_suffix(".json"), trust_paths=True)
        assert (restored.record.seed, restored.record.prompt) == (seed, "a fox")
        [again] = draw_into(tmp_path / "again", pictures.model, restored.job, [seed])
        assert restored.compare(again).same_bytes
    by_alpha = Job(prompt="a fox", subjects=tuple(SubjectFiles(image=folder / f"{n}.png") for n in ("fox", "robot")))
    [plain] = draw(pictures.model, by_alpha, [7])
    np.testing.assert_array_equal(plain.image, pictures.pictures[0].image)
    assert [json.loads(text)["seed"] for text in outputs["15"][0]] == [7, 8]


def test_characters_go_where_their_regions_are_and_give_the_prompt_its_words(workflow, nodes, tiny):
    halves = {"n2__left": 0, "n2__right": 0.5, "n2__top": 0, "n2__bottom": 1, "n3__left": 0.5, "n3__right": 1}
    flow = workflow("cast_and_regions", tiny, n3__top=0, n3__bottom=1, n8__batch_size=1, **halves)
    outputs, _ = run(flow, nodes)
    [_], [masks], [pictures] = outputs["8"]
    assert pictures.job.prompt == "a blue rabbit and a red rabbit standing together in a snowy field"
    mara, bo = masks
    assert mara[:, SIZE // 2 :].all()
    assert bo[:, : SIZE // 2].all()


def test_subjects_are_found_in_a_picture(workflow, nodes, tiny):
    outputs, shown = run(workflow("segment", tiny), nodes)
    [masks], [soft], [overlay], [report] = outputs["9"]
    assert masks.shape == soft.shape == (2, 48, 64)
    assert not (masks.sum(dim=0) > 1).any()
    assert overlay.shape == (1, 48, 64, 3)
    [found] = json.loads(report)
    assert [one["name"] for one in found] == ["fox", "robot"]
    assert [one["share"] for one in found] == [round(float(mask.mean()), 4) for mask in masks]
    assert shown["13"]["text"] == (report,)


def test_flux_draws_with_a_node_of_its_own(workflow, nodes, tmp_path):
    from pipelines.flux.tiny import pipeline

    pipeline().save_pretrained(tmp_path / "flux")
    changes = {"n1__adapter": "", "n1__dtype": "float32", "n1__offload": "none", "n8__width": 64, "n8__height": 64}
    flow = workflow("flux", tmp_path / "flux", n8__steps=1, **changes)
    outputs, _ = run(flow, nodes)
    [images], [masks], [pictures] = outputs["8"]
    assert images.shape == (1, 64, 64, 3)
    np.testing.assert_array_equal(masks, pictures.pictures[0].routing.masks())
    assert (pictures.job.true_cfg, pictures.job.negative_prompt) == (None, None)
    [model] = outputs["1"][0]
    sizes = {"width": 64, "height": 64, "steps": 1}
    more = sizes | {"true_cfg": 3.0, "negative_prompt": "a"}
    _, _, pictures = nodes["AnyStorySamplerFlux"]().sample(model, "a fox", 1, **more)
    assert (pictures.job.true_cfg, pictures.job.negative_prompt) == (3.0, "a")
    with pytest.raises(ValueError, match=r"^model is FLUX\.1 .*, which the node 'AnyStory Sampler \(FLUX\.1\)' draws"):
        nodes["AnyStorySampler"]().sample(model, "a fox", 1, **sizes)


def test_klein_draws_with_a_node_of_its_own(nodes, subject, tmp_path):
    from cli.klein_files import write_klein_files

    [model] = nodes["AnyStoryModel"]().load(str(write_klein_files(tmp_path / "klein").distilled))
    sample, subjects = nodes["AnyStorySamplerKlein"]().sample, subject()[0]
    untouched = {"steps": 0, "guidance": -1.0, "strength": -1.0, "isolation": "on", "text_gate": "none"}
    common = untouched | {"width": 64, "height": 64, "routing": "none"}
    images, masks, pictures = sample(model, "a fox", 1, **common)
    assert (images.shape, masks.any()) == ((1, 64, 64, 3), False)
    images, masks, pictures = sample(model, "a fox", 1, subjects=subjects, **common | {"routing": "attention"})
    assert (pictures.job.routing, pictures.job.isolation) == ("attention", None)
    np.testing.assert_array_equal(masks, pictures.pictures[0].routing.masks())
    with pytest.raises(ValueError, match="^model .* has no router that could find subjects"):
        nodes["AnyStorySegment"]().find(model, images, subjects)


@pytest.mark.parametrize("name", ["two_subjects", "cast_and_regions", "segment"])
def test_the_embedded_model_runs_the_workflows_as_they_are(name, workflow, nodes):
    run(workflow(name), nodes)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_for_the_page_say_what_those_for_the_api_say(name, workflow, nodes):
    """Also: nothing is given that no node asks for, and what is left out is optional."""
    page = json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    links = {number: [str(source), place] for number, source, place, *_ in page["links"]}
    flow = json.loads((PACK / "api_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    kinds = {number: node["class_type"] for number, node in flow.items()}
    assert {str(node["id"]): node["type"] for node in page["nodes"]} == kinds
    for node in page["nodes"]:
        wired = {one["name"]: links[one["link"]] for one in node["inputs"] if one["link"] is not None}
        written = [one["name"] for one in node["inputs"] if "widget" in one and one["name"] != "upload"]
        values = [value for value in node.get("widgets_values", []) if value not in ("fixed", "image")]
        given = flow[str(node["id"])]["inputs"]
        known = {name for group in nodes[node["type"]].INPUT_TYPES().values() for name in group}
        assert set(given) <= known
        assert {**dict(zip(written, values, strict=False)), **wired} == {**given, **wired}


# --- what cannot be ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n1__model": "minni"}, "1: no model 'minni': expected an embedded model ('mini',)"),
        ({"n1__device": "gpu"}, "1: device must be one of"),
        ({"n4__segmenter": "scissors"}, "4: segmenter must be one of"),
        ({"n8__seed": -1}, "8: seed must be in 0…4294967295, got -1"),
        ({"n8__model": ["7", 0]}, "8: model takes no ANYSTORY_SUBJECTS"),
        ({"n8__subjects": "fox"}, "8: subjects must be a link to a ANYSTORY_SUBJECTS"),
    ],
)
def test_what_can_be_known_before_is_refused_before(change, said, workflow, nodes):
    found = refusals(workflow("two_subjects", change.pop("n1__model", "mini"), **change), nodes)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_character_that_is_not_there_is_named_with_the_nearest(workflow, nodes):
    with pytest.raises(Refused, match=r"4: there is no character 'Marra' in .*: the nearest is 'Mara'"):
        run(workflow("cast_and_regions", n4__character="Marra"), nodes)


def test_what_is_known_later_is_one_sentence(nodes, subject, loaded, tmp_path):
    sample, subjects = nodes["AnyStorySampler"]().sample, subject()[0]
    _, _, pictures = sample(loaded, "a fox", 1, subjects=subjects)
    show, save = nodes["AnyStoryRoutingMask"]().show, nodes["AnyStorySave"]().save
    for function, said in (
        (lambda: sample(loaded, "a fox", 1, width=17), "width"),
        (lambda: sample(loaded, "a fox", 2**32 - 1, 2), "^seed 4294967295 with 2 pictures goes past the largest seed"),
        (lambda: sample(loaded, "\udcff", 1), "^prompt holds bytes that are no UTF-8"),
        (
            lambda: show(pictures, "bear"),
            "^subject must be one of 'fox', its number from 1, or 'background', got 'bear'$",
        ),
        (lambda: show(pictures, "0"), "^subject must be one of"),
        (lambda: show(pictures, "fox", layer="none"), "^`layer` must be one of"),
        (lambda: show(pictures, "fox", step=9), "^`step` must be one of the recorded steps"),
        (lambda: save(pictures, "../elsewhere"), "^folder must lie in ComfyUI's output folder"),
        (lambda: save(pictures, "/elsewhere"), "^folder must lie in ComfyUI's output folder"),
        (
            lambda: nodes["AnyStoryModel"]().load("mini", lora="lora.bin"),
            "^lora lora.bin: LoRAs must be .safetensors files",
        ),
        (lambda: nodes["AnyStoryModel"]().load("mini", device="cuda"), "^device cuda: this machine has no CUDA GPU"),
    ):
        with pytest.raises((ValueError, OSError), match=said) as refused:
            function()
        assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir() if path.name in ("elsewhere", "output")] == []


def test_pictures_and_masks_that_cannot_be(nodes, subject, loaded):
    give, sample = nodes["AnyStorySubject"]().give, nodes["AnyStorySampler"]().sample
    image, black = torch.rand(1, 8, 8, 3), torch.zeros(1, 8, 8)
    several = torch.rand(2, SIZE, SIZE, 3)
    given = (loaded, "a fox", 1)
    for function, said in (
        (lambda: give(image[0], "fox"), r"^image must be an IMAGE \(B, H, W, 3 or 4\), got \(8, 8, 3\)$"),
        (lambda: give(image * torch.nan, "fox"), "^image holds values that are no colours"),
        (lambda: give(image, "fox", mask=torch.zeros(1, 64, 64)), "^mask must be white where something is.*Load Image"),
        (
            lambda: give(image, "fox", mask=torch.ones(2, 8, 8)),
            "^mask must be one for each picture: there are 2 for 1$",
        ),
        (lambda: give(image, "fox", mask=torch.ones(1, 9, 9)), "8×8"),
        (lambda: subject(region=black), "^region must be white"),
        (lambda: subject(region=torch.ones(2, 8, 8)), "^region must be one mask, got a batch of 2$"),
        (lambda: sample(*given, image=several), "^image must be one picture, got a batch of 2"),
        (lambda: sample(*given, mask=torch.ones(1, 8, 8)), "^image is missing"),
        (lambda: sample(*given, image=image, mask=torch.ones(3, 8, 8)), "^mask must be one mask, got a batch of 3$"),
        (lambda: nodes["AnyStoryRegion"]().paint(0.5, 0.0, 0.2, 1.0, 8, 8), "^`region` must be a box"),
        (lambda: nodes["AnyStoryModel"]().load("nowhere.safetensors"), "^nowhere.safetensors: No such file$"),
    ):
        with pytest.raises((ValueError, OSError), match=said) as refused:
            function()
        assert "\n" not in str(refused.value)


def test_without_subjects_there_is_nothing_to_map(nodes, loaded):
    images, masks, pictures = nodes["AnyStorySampler"]().sample(loaded, "a fox", 3)
    assert images.shape == (1, SIZE, SIZE, 3)
    assert not masks.any()
    for node in ("AnyStoryRoutingMask", "AnyStoryRoutingSheet"):
        more = ("1",) if node.endswith("Mask") else ()
        with pytest.raises(ValueError, match="^pictures have no routing maps"):
            nodes[node]().show(pictures, *more)


# --- what the nodes make of their inputs ---


def test_a_picture_is_drawn_over_inside_its_mask(nodes, subject, loaded):
    image, mask = torch.rand(1, SIZE, SIZE, 3), torch.zeros(1, SIZE, SIZE)
    mask[:, :, SIZE // 2 :] = 1
    subjects = subject()[0]
    given = {"subjects": subjects, "image": image, "mask": mask, "strength": 1.0, "guidance": 5.0, "steps": 2}
    [drawn], _, pictures = nodes["AnyStorySampler"]().sample(loaded, "a fox", 3, **given)
    kept = (image[0] * 255).round() == (drawn * 255).round()
    assert kept[:, : SIZE // 2].all()
    assert not kept[:, SIZE // 2 :].all()
    assert (pictures.job.strength, pictures.job.guidance, pictures.job.steps) == (1.0, 5.0, 2)


def test_numbers_that_are_left_to_the_model_are_none_in_the_job(nodes, subject, loaded):
    from_wires = {"steps": 0, "guidance": -1.0, "width": 0, "height": 0, "background_seed": -1, "negative_prompt": ""}
    _, _, pictures = nodes["AnyStorySampler"]().sample(loaded, "a fox", 3, subjects=subject()[0], **from_wires)
    assert [getattr(pictures.job, name) for name in from_wires] == [None] * 6
    assert pictures.pictures[0].numbers.steps == 2
    _, _, pictures = nodes["AnyStorySampler"]().sample(loaded, "a fox", 3, guidance=0.0, background_seed=0)
    assert (pictures.job.guidance, pictures.job.background_seed) == (0.0, 0)


def test_maps_are_chosen_by_name_number_step_and_layer(nodes, subject, loaded):
    subjects = subject("ann", subjects=subject("fox")[0])[0]
    _, _, pictures = nodes["AnyStorySampler"]().sample(loaded, "a fox", 3, subjects=subjects)
    record = pictures.pictures[0].routing
    show = nodes["AnyStoryRoutingMask"]().show
    masks = record.masks()
    for asked, expected in {"fox": masks[0], "2": masks[1], "background": ~masks.any(axis=0)}.items():
        np.testing.assert_array_equal(show(pictures, asked)[0][0], expected)
    for layer in (record.layers[1], "1"):
        [found] = show(pictures, "ann", map="coarse", step=0, layer=layer)
        np.testing.assert_array_equal(found[0], record.mean(step=0, layers=[1], refined=False)[1])


def test_a_batch_is_photos_of_one_subject_and_the_cut_out_is_shown(nodes):
    image, mask = torch.rand(2, 20, 20, 3), torch.zeros(2, 20, 20)
    mask[:, 4:12, 6:16] = 1
    (given,), cutout, shown = nodes["AnyStorySubject"]().give(image, "fox", mask=mask)
    assert len(given.files.photos) == 2
    assert given.files.image.name.startswith("fox-")
    assert cutout.shape == (1, 8, 10, 3)
    np.testing.assert_allclose(cutout, image[:1, 4:12, 6:16], atol=0.5 / 255 + 1e-6)
    assert (shown == 1).all()


def test_alpha_cuts_a_picture_out(nodes):
    image = torch.ones(1, 20, 20, 4)
    image[:, :10, :, 3] = 0
    _, cutout, _ = nodes["AnyStorySubject"]().give(image, "fox")
    assert cutout.shape == (1, 10, 20, 3)


def test_a_character_and_a_model_that_have_changed_are_read_again(nodes, folder, tiny, tmp_path):
    character, model = nodes["AnyStoryCharacter"], nodes["AnyStoryModel"]
    assert character.INPUT_TYPES()["required"]["character"][0] == ["Bo", "Mara"]
    before = character.IS_CHANGED("mara"), character.IS_CHANGED("bo")
    Library().add_variant("Mara", "winter", [folder / "fox.png"], description="a fox")
    assert character.IS_CHANGED("mara") != before[0]
    assert character.IS_CHANGED("bo") == before[1]
    assert "Mara@winter" in character.INPUT_TYPES()["required"]["character"][0]
    assert character().give("mara@winter")[1] == "a fox"
    copy = shutil.copytree(tiny, tmp_path / "copy")
    was = model.IS_CHANGED(str(copy), adapter="")
    (copy / "adapter" / "config.json").touch()
    assert model.IS_CHANGED(str(copy), adapter="") != was
    assert model.IS_CHANGED("mini") == model.IS_CHANGED("mini")


def test_a_library_that_cannot_be_read_leaves_the_other_nodes(nodes, monkeypatch, folder):
    monkeypatch.setenv("ANYSTORY_CAST", str(folder / "fox.png"))
    character = nodes["AnyStoryCharacter"]
    assert character.INPUT_TYPES()["required"]["character"][0] == [""]
    assert "is a file, not a folder" in character.VALIDATE_INPUTS("Mara")


def test_steps_are_shown_and_an_interruption_ends_the_run(nodes, subject, loaded, monkeypatch):
    """The parts of a running ComfyUI that a sampler meets; `try_workflows.py` has the real one."""
    bars, interrupted = [], []

    class ProgressBar:
        def __init__(self, total):
            bars.append((total, []))

        def update_absolute(self, value, total, preview):
            bars[-1][1].append((value, None if preview is None else preview[1].size))

    def stop():
        if interrupted:
            raise KeyError("stopped")

    methods = SimpleNamespace(NoPreviews="none")
    arguments = SimpleNamespace(args=SimpleNamespace(preview_method="auto"), LatentPreviewMethod=methods)
    monkeypatch.setitem(sys.modules, "comfy.utils", SimpleNamespace(ProgressBar=ProgressBar))
    monkeypatch.setitem(sys.modules, "comfy.cli_args", arguments)
    host = SimpleNamespace(throw_exception_if_processing_interrupted=stop)
    monkeypatch.setitem(sys.modules, "comfy.model_management", host)
    sample, subjects = nodes["AnyStorySampler"]().sample, subject()[0]
    sample(loaded, "a fox", 3, 2, subjects=subjects)
    [(total, told)] = bars
    assert total == 4
    assert [value for value, _ in told] == [1, 2, 3, 4]
    assert all(size is not None for _, size in told)
    arguments.args.preview_method = "none"
    sample(loaded, "a fox", 3, subjects=subjects)
    assert [size for _, size in bars[-1][1]] == [None, None]
    interrupted.append(True)
    with pytest.raises(KeyError, match="stopped"):
        sample(loaded, "a fox", 3, subjects=subjects)
    interrupted.clear()
    sample(loaded, "a fox", 3, subjects=subjects)
    find, two = nodes["AnyStorySegment"]().find, torch.zeros(2, 32, 32, 3)
    find(loaded, two, subjects)
    assert bars[-1] == (2, [(1, None), (2, None)]), "a look at each of two pictures"
    interrupted.append(True)
    with pytest.raises(KeyError, match="stopped"):
        find(loaded, two, subjects)


def test_the_pack_is_a_package(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(PACK)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
    assert {"anystory_comfyui/__init__.py", "anystory_comfyui/samplers.py"} <= set(names)
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Dist: anystory" in metadata


def test_every_node_has_a_name_and_says_what_it_gives(pack):
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    for node in pack.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node, node.FUNCTION))
        assert len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
        assert node.CATEGORY
        assert node.DESCRIPTION


def test_only_the_tensors_know_torch(pack):
    """The others name its types at most."""
    for file in sorted((PACK / "anystory_comfyui").glob("*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        found = [node for node in body if isinstance(node, ast.Import) and node.names[0].name == "torch"]
        assert bool(found) == (file.name == "tensors.py"), file.name
