"""The record of a sample: what it takes and what it refuses."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from anystory.data.records import SampleRecord, SampleReference, SampleSubject
from anystory.input_files import why_invalid


def subject(mask: str | None = "m.png") -> SampleSubject:
    return SampleSubject(mask=mask, references=(SampleReference(image="r.png"),))


def test_a_record_survives_json() -> None:
    record = SampleRecord(key="fox-01", image="a.png", caption="a fox", subjects=(subject(), subject("n.png")))
    assert SampleRecord.model_validate_json(record.model_dump_json()) == record
    assert record.files == ("a.png", "m.png", "r.png", "n.png", "r.png")


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "ä", "a b", "x" * 129])
def test_a_key_must_be_safe_in_file_names(key: str) -> None:
    with pytest.raises(ValidationError, match="a key is 1 to 128 letters"):
        SampleRecord(key=key, image="a.png", caption="a fox", subjects=(subject(),))


def test_only_a_lone_subject_may_lack_its_mask() -> None:
    assert SampleRecord(key="a", image="a.png", caption="a", subjects=(subject(None),)).subjects[0].mask is None
    with pytest.raises(ValidationError, match="subject 2 of 2 has no mask"):
        SampleRecord(key="a", image="a.png", caption="a", subjects=(subject(), subject(None)))


def test_what_is_missing_or_unknown_is_named() -> None:
    with pytest.raises(ValidationError) as caught:
        SampleRecord.model_validate(
            {"key": "a", "image": " ", "caption": "a", "subjects": [{"references": []}], "x": 1}
        )
    text = why_invalid(caught.value)
    assert "subjects.0.references" in text
    assert "image: a file's name must not be empty" in text
    assert "x: Extra inputs are not permitted" in text
