"""Each public layout read, and what is wrong with a folder told in a sentence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from anystory.evaluation.benchmarks.readers.dreambench import read_dreambench
from anystory.evaluation.benchmarks.readers.ms_bench import read_ms_bench
from anystory.evaluation.benchmarks.readers.multibanana import read_multibanana
from anystory.evaluation.benchmarks.readers.pair_list import read_pair_list
from anystory.evaluation.benchmarks.readers.vistorybench import read_vistorybench
from anystory.evaluation.benchmarks.registry import BENCHMARKS
from evaluation.benchmarks import folders


def test_dreambench_gives_living_subjects_their_own_prompts(tmp_path: Path):
    cases = read_dreambench(folders.dreambooth(tmp_path))
    assert [case.prompt for case in cases] == [
        "a dog in the snow", "a dog in a chef outfit", "a vase in the snow", "a red vase",
    ]  # fmt: skip
    assert [case.group for case in cases] == ["live", "live", "object", "object"]
    [subject] = cases[0].subjects
    assert subject.image.name == "00.jpg", "the first by name, not by when it was written"
    assert [path.name for path in subject.compared] == ["00.jpg", "01.jpg"]
    assert {case.cluster for case in cases} == {"dog6", "vase"}
    assert len({case.folder for case in cases}) == 4
    assert read_dreambench(tmp_path / "dataset") == cases


def test_pairs_are_numbered_and_their_photos_found(tmp_path: Path):
    cases = read_pair_list(folders.pair_list(tmp_path))
    assert [case.key for case in cases] == ["cat+dog-00", "cat+dog-01", "dog+vase-00"]
    assert [one.image.parent.name for one in cases[2].subjects] == ["dog", "vase"]
    assert all(one.compared == (one.image,) for case in cases for one in case.subjects)
    # The list alone, in the folder of DreamBooth's data set.
    other = tmp_path / "elsewhere"
    folders.photo(other / "dataset" / "cat" / "04.jpg", "red")
    entry = {"prompt": "a cat", "image_paths": ["./dreambooth/dataset/cat/04.jpg"]}
    (other / "list.json").write_text(json.dumps([entry]))
    [case] = read_pair_list(other / "list.json")
    assert case.subjects[0].image == other / "dataset" / "cat" / "04.jpg"
    assert case.group == "1 subjects"


def test_ms_bench_combines_types(tmp_path: Path):
    cases = read_ms_bench(folders.ms_bench(tmp_path))
    counts = Counter(case.group for case in cases)
    assert counts == {"living_living": 2, "living_object": 4, "living_scene": 2, "living_object_scene": 2}
    assert cases[0].prompt == "a cat and a dog in a room"
    assert cases[0].cluster == "cat+dog6", "each set of equal types once"
    assert cases[-1].prompt == "a dog and vase with a barn in the background"
    assert cases[-1].subjects[2].region == (0, 0, 1, 1)
    assert read_ms_bench(tmp_path / "msbench") == cases, "the folder inside the repository"


def test_ms_benchs_table_is_not_run(tmp_path: Path):
    folders.ms_bench(tmp_path)
    table = tmp_path / "msdiffusion" / "dataset" / "prompts" / "msbench.py"
    table.write_text(f"data_class_dict = open({str(tmp_path / 'made')!r}, 'w')\n{folders.MS_TABLE}")
    with pytest.raises(ValueError, match="is not MS-Bench's table of constants"):
        read_ms_bench(tmp_path)
    assert not (tmp_path / "made").exists()


def test_multibanana_takes_references_from_zero_or_one(tmp_path: Path):
    cases = read_multibanana(folders.multibanana(tmp_path))
    assert [(case.key, len(case.subjects)) for case in cases] == [("2_objects-006", 2), ("3_back-014", 3)]
    assert cases[0].prompt == "Put them side by side, 2_objects."
    assert [one.image.name for one in cases[1].subjects] == ["014_1.jpg", "014_2.jpg", "014_3.jpg"]
    assert cases[1].official == "3_back/014_generated.png"
    tmp_path.joinpath("data").mkdir()
    (tmp_path / "2_objects").rename(tmp_path / "data" / "2_objects")
    (tmp_path / "3_back").rename(tmp_path / "data" / "3_back")
    assert len(read_multibanana(tmp_path)) == 2


def test_vistorybench_joins_a_shots_texts(tmp_path: Path):
    cases = read_vistorybench(folders.vistory(tmp_path))
    assert [case.key for case in cases] == ["01-01", "01-02", "01-03", "79-01", "79-02"]
    assert cases[1].prompt == "long shot;talk;they sit;Big is a rabbit;Small is a rabbit;a meadow;"
    assert [one.name for one in cases[1].subjects] == ["01/Big", "01/Small"]
    assert len(cases[1].subjects[0].compared) == 2
    assert cases[4].subjects == ()
    assert cases[1].official == "shots/01/shot_02.png"
    chinese = read_vistorybench(tmp_path / "ViStory", language="ch")
    assert chinese[0].prompt == "long shot (ch);wakes (ch);they sit (ch);Big (ch) is (ch);a meadow (ch);"
    assert chinese[0].subjects == cases[0].subjects
    (tmp_path / "ViStory" / "79").rename(tmp_path / "ViStory" / "80")
    assert {case.cluster for case in read_vistorybench(tmp_path, lite=True)} == {"01"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_empty_folder_says_what_is_missing(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=str(tmp_path)):
        BENCHMARKS[name].read(tmp_path)


def test_damaged_data_is_named(tmp_path: Path):
    folders.dreambooth(tmp_path / "a")
    for path in (tmp_path / "a" / "dataset" / "vase").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="vase has no pictures"):
        read_dreambench(tmp_path / "a")
    (tmp_path / "a" / "dataset" / "prompts_and_classes.txt").write_text("Classes\n")
    with pytest.raises(ValueError, match="lists no classes or no prompts"):
        read_dreambench(tmp_path / "a")

    folders.pair_list(tmp_path / "b")
    listed = tmp_path / "b" / "dreambench_multiip.json"
    for content, said in (
        ('{"prompt": "a cat"}', "must hold a JSON list"),
        ('[{"prompt": "a cat"}]', "entry 0 must be"),
        ('[{"prompt": "a cat", "image_paths": ["x/no.jpg"]}]', "entry 0 names x/no.jpg"),
        ("[", "no valid JSON"),
    ):
        listed.write_text(content)
        with pytest.raises(ValueError, match=said):
            read_pair_list(tmp_path / "b")

    folders.ms_bench(tmp_path / "c")
    folders.photo(tmp_path / "c" / "msbench" / "living" / "unicorn.jpg", "grey")
    with pytest.raises(ValueError, match="does not know 'unicorn'"):
        read_ms_bench(tmp_path / "c")

    folders.multibanana(tmp_path / "d")
    (tmp_path / "d" / "2_objects" / "006_prompt.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"006_prompt\.txt is empty"):
        read_multibanana(tmp_path / "d")
    (tmp_path / "d" / "2_objects" / "007_prompt.txt").write_text("a prompt")
    (tmp_path / "d" / "2_objects" / "006_prompt.txt").unlink()
    with pytest.raises(ValueError, match="has no references beside it: expected 007_0"):
        read_multibanana(tmp_path / "d")

    folders.vistory(tmp_path / "e")
    story = tmp_path / "e" / "ViStory" / "01" / "story.json"
    story.write_text('{"Shots": []}')
    with pytest.raises(ValueError, match=r"01/story\.json is no story of ViStoryBench"):
        read_vistorybench(tmp_path / "e")
    with pytest.raises(ValueError, match="language must be one of en, ch"):
        read_vistorybench(tmp_path / "e", language="de")
