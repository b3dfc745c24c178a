"""What every test has: a record of the test files that pytest has read, which tests are slow, and a tiny pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_READ = pytest.StashKey[set[Path]]()
_SLOW = Path(__file__).with_name("slow.txt")


def slow_tests() -> list[str]:
    """The entries of `slow.txt`: a file, a test (all of its cases), or a single case."""
    lines = _SLOW.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `slow.txt` names."""
    slow = set(slow_tests())
    for item in items:
        test = item.nodeid.partition("[")[0]
        if slow & {test.partition("::")[0], test, item.nodeid}:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Note a file before pytest makes a module of it."""
    parent.config.stash.setdefault(_READ, set()).add(module_path)


@pytest.fixture(scope="session")
def files_read(request: pytest.FixtureRequest) -> set[Path]:
    """The test files that this session has read."""
    return request.config.stash[_READ]


@pytest.fixture
def bitsandbytes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bitsandbytes on a CPU, where diffusers alone refuses it; its packed kernels take no layers as small as ours."""
    found = pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes is not installed: pip install 'anystory[quantize]'"
    )
    from diffusers.quantizers.bitsandbytes import bnb_quantizer

    for kind in (bnb_quantizer.BnB4BitDiffusersQuantizer, bnb_quantizer.BnB8BitDiffusersQuantizer):
        monkeypatch.setattr(kind, "validate_environment", lambda self, **given: None)
        monkeypatch.setattr(kind, "update_device_map", lambda self, given: given or {"": "cpu"})
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    return found


@pytest.fixture(scope="session")
def named_slow() -> list[str]:
    """The entries of `slow.txt`."""
    return slow_tests()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of the embedded model's layout, as a folder."""
    from pipelines import helpers  # heavy: for tests that ask for it

    folder = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 2, "guidance_scale": 4.0}).save_pretrained(folder)
    return folder
