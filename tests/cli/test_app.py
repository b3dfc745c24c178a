"""The program as a whole: light to start, lazy about its verbs, clear about errors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from rich.markup import render
from typer.testing import CliRunner

import anystory
from anystory import cli

HEAVY = ("torch", "diffusers", "transformers", "numpy", "cv2", "PIL", "skia", "accelerate")


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_help_imports_nothing_heavy():
    loaded = run_python(
        "import sys\n"
        "from anystory.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('LOADED', *[m for m in {HEAVY} if m in sys.modules])"
    )
    assert loaded.splitlines()[-1] == "LOADED"
    for verb in cli.VERBS:
        assert verb in loaded


def test_help_loses_no_words_in_brackets():
    """Rich takes [words] for markup, and prints nothing of them."""
    commands = [cli.load_verb(verb) for verb in cli.VERBS]
    lost = []
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
        lost += [text for text in texts if render(text).plain != text]
    assert lost == []


def test_importing_the_package_imports_nothing_heavy():
    loaded = run_python(f"import sys, anystory; print(*[m for m in {HEAVY} if m in sys.modules])")
    assert loaded.strip() == ""


def test_the_package_lists_its_names_and_refuses_others():
    assert set(anystory.__all__) <= set(dir(anystory))
    with pytest.raises(AttributeError, match="Subjekt"):
        _ = anystory.Subjekt  # pyright: ignore[reportAttributeAccessIssue]


def test_version():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, f"anystory {anystory.__version__}")


@pytest.fixture
def verb(monkeypatch):
    """Put a function in place of the verb "generate"."""

    def install(function):
        monkeypatch.setattr(cli, "chosen", function, raising=False)
        monkeypatch.setitem(cli.VERBS, "generate", cli.Verb("anystory.cli", "chosen", "help"))
        return lambda *args: CliRunner().invoke(cli.app, list(args))

    return install


def test_a_verb_gets_its_arguments(verb):
    def greet(name: str, times: int = 1):
        print(f"hello {name} " * times)

    run = verb(greet)
    assert run("generate", "fox", "--times", "2").stdout.strip() == "hello fox hello fox"
    wrong = run("generate", "fox", "--thymes", "2")
    assert wrong.exit_code == 2
    assert "--thymes" in wrong.output


def test_a_sub_app_is_a_verb(verb):
    sub = typer.Typer()
    sub.command("sheet")(lambda: print("a sheet"))
    sub.command("scene")(lambda: print("a scene"))
    assert verb(sub)("generate", "scene").stdout.strip() == "a scene"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the mask is empty"), "anystory: the mask is empty"),
        (
            FileNotFoundError(2, "No such file or directory", "fox.png"),
            "anystory: fox.png: No such file or directory",
        ),
    ],
)
def test_user_errors_are_one_line_and_exit_code_2(verb, error, line):
    def fail():
        raise error

    run = verb(fail)
    result = run("generate")
    assert (result.exit_code, result.stderr.strip(), result.stdout) == (2, line, "")
    assert run("--debug", "generate").exception is error


def test_warnings_for_users_are_one_line_said_once_and_those_for_developers_are_silent():
    code = (
        "import sys, types, warnings\n"
        "from anystory import cli\n"
        "def warn():\n"
        "    warnings.simplefilter('always')\n"
        "    warnings.warn('only the first frame is used')\n"
        "    warnings.warn('old', FutureWarning)\n"
        "    with warnings.catch_warnings():\n"
        "        warnings.warn('only the first frame is used')\n"
        "cli.chosen = warn\n"
        "cli.VERBS['demo'] = cli.Verb('anystory.cli', 'chosen', '')\n"
        "sys.argv = ['anystory', 'demo']\n"
        "cli.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stderr == "warning: only the first frame is used\n"


def test_bugs_keep_their_traceback(verb):
    def fail():
        raise RuntimeError("a bug")

    assert isinstance(verb(fail)("generate").exception, RuntimeError)
