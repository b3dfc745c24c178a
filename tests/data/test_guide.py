"""docs/data.md says what is so: its example is a sample, its reasons are the code's, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from typer.core import TyperGroup

from anystory.cli import load_verb
from anystory.data.bad_samples import REASONS
from anystory.data.records import SampleRecord

GUIDE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_example_is_a_sample() -> None:
    example = re.search(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    assert example is not None
    record = SampleRecord.model_validate_json(example[1])
    assert [len(subject.references) for subject in record.subjects] == [2, 1]
    assert set(record.model_fields_set) == set(SampleRecord.model_fields)  # it shows every field


def test_every_reason_is_explained() -> None:
    table = GUIDE.partition("| reason |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    assert named == set(REASONS)


def test_the_commands_exist() -> None:
    command = load_verb("data")
    assert isinstance(command, TyperGroup)
    for name, rest in re.findall(r"anystory data (\w+)([^\n`]*)", GUIDE):
        assert name in command.commands, name
        options = {option for parameter in command.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(--[a-z-]+)", rest.partition("#")[0])) <= options


def test_the_commands_that_train_exist() -> None:
    command = load_verb("train")
    assert isinstance(command, TyperGroup)
    found = re.findall(r"(?m)^    anystory train (\S+)([^\n]*)", GUIDE)
    assert len(found) == 4
    for name, rest in found:
        verb = command.commands[name if name in command.commands else "run"]
        options = {option for parameter in verb.params for option in parameter.opts}
        assert set(re.findall(r"(--[a-z-]+)", rest.partition("#")[0])) <= options
