"""scripts/mutants.py: its mutants fit the code as it is, and it tells killed, survived and broken ones apart."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import mutants
import pytest
import yaml

SOURCE = mutants.ROOT / "src" / "anystory"
TESTS = mutants.ROOT / "tests"
ALL = mutants.read_mutants()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: mutants.Mutant) -> None:
    """Where you have changed such a line, change the mutant with it: it must still break what its name says."""
    before = (SOURCE / mutant.file).read_text(encoding="utf-8")
    after = mutant.applied(before)
    assert after != before
    compile(after, mutant.file, "exec")
    for place in mutant.tests:
        file, _, name = place.partition("[")[0].partition("::")
        assert f"def {name}" in (TESTS / file).read_text(encoding="utf-8"), place


def test_a_text_that_is_not_there_once_is_told_with_the_mutants_name() -> None:
    mutant = mutants.Mutant(name="two is three", file="a.py", old="2", new="3", tests=())
    assert mutant.applied("1 + 2") == "1 + 3"
    for source, times in (("1 + 1", 0), ("2 + 2", 2)):
        with pytest.raises(ValueError, match=f"'two is three': '2' is {times} times in a.py"):
            mutant.applied(source)


def test_names_are_given_once(tmp_path: Path) -> None:
    one = {"name": "same", "old": "a", "new": "b"}
    file = tmp_path / "mutants.yaml"
    file.write_text(yaml.safe_dump([{"file": "a.py", "tests": ["test_a.py"], "mutants": [one, one]}]))
    with pytest.raises(ValueError, match="two mutants of the name same"):
        mutants.read_mutants(file)


def test_a_word_that_no_name_holds_is_told() -> None:
    with pytest.raises(ValueError, match="no mutant's name holds xyzzy or plugh"):
        mutants.main(["xyzzy", "plugh"])


def test_a_fork_answers_or_is_ended() -> None:
    assert mutants.in_fork(lambda: {"code": 0}, longest=60) == {"code": 0}
    assert mutants.in_fork(lambda: 1 / 0, longest=60)["code"].startswith("ZeroDivisionError")
    began = time.monotonic()
    assert mutants.in_fork(lambda: time.sleep(60), longest=0.2) is None
    assert time.monotonic() - began < 30


PACKAGE = """
def double(x):
    return 2 * x

def half(x):
    return x / 2
"""
CASE = """
import toy

def test_double():
    assert toy.double(3) == {right}
"""


def run(folder: Path, right: int) -> subprocess.CompletedProcess[str]:
    """A package with one tested function and one that is not."""
    texts = {
        "src/toy/__init__.py": PACKAGE,
        "tests/test_toy.py": CASE.format(right=right),
        "mutants.yaml": yaml.safe_dump(
            [
                {
                    "file": "__init__.py",
                    "tests": ["test_toy.py"],
                    "mutants": [
                        {"name": "double trebles", "old": "2 * x", "new": "3 * x"},
                        {"name": "half is whole", "old": "x / 2", "new": "x"},
                        {"name": "no Python", "old": "def half", "new": "def def"},
                    ],
                }
            ]
        ),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    root, script = str(folder), str(Path(mutants.__file__).parent)
    code = f"import mutants, pathlib; r = pathlib.Path({root!r}); exit(mutants.main([], r, 'toy', r / 'mutants.yaml'))"
    return subprocess.run([sys.executable, "-c", code], cwd=script, capture_output=True, text=True, check=False)


def test_a_package_of_two_functions(tmp_path: Path) -> None:
    done = run(tmp_path, right=6)
    assert done.returncode == 1, done.stderr
    *_, trebles, whole, nonsense, _, score = done.stdout.splitlines()
    assert trebles.split() == ["double", "trebles", "killed", "test_toy.py::test_double"]
    assert whole.split() == ["half", "is", "whole", "survived"]
    assert nonsense.split()[:3] == ["no", "Python", "broken"]
    assert score.startswith("1 of 3 killed (33.3%)")
    assert (tmp_path / "src/toy/__init__.py").read_text() == PACKAGE, "your files stay as they are"


def test_tests_that_fail_without_a_mutant_prove_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, right=7)
    assert "must pass before something is broken on purpose: test_toy.py::test_double" in done.stderr
