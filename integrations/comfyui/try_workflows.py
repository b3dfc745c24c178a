"""Run the example workflows inside a real ComfyUI, through its HTTP API, each to a picture.

    python integrations/comfyui/try_workflows.py --comfyui ~/ComfyUI --python ~/ComfyUI/venv/bin/python --out tried

It needs a checkout of ComfyUI and an interpreter that has ComfyUI's requirements and `anystory`. The server runs on the
CPU on 127.0.0.1, in a folder of its own that is removed at the end: nothing in the checkout changes. The first workflow
draws with the embedded model, and its picture becomes what the last one looks at. Then inputs that cannot be must be
refused in one sentence, and an interruption must end a run. `--flux` runs the workflow for FLUX.1 too, with a model
that you have. Nothing but the standard library is needed to run this script itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parent
DEMO = PACK.parents[1] / "src" / "anystory" / "assets" / "demo"
WORKFLOWS = PACK / "api_workflows"
_SECONDS = 900
"""The longest that a start or a workflow may take; the CPU may be busy."""

_CAST = """
from anystory import Library
library = Library()
library.add("Mara", [{demo!r} + "/blue-rabbit.png"], description="a blue rabbit")
library.add("Bo", [{demo!r} + "/red-rabbit.png"], description="a red rabbit")
"""


class Server:
    """A ComfyUI that runs, by its HTTP API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **query: str) -> bytes:
        """What a path gives."""
        url = f"{self.address}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.read()

    def post(self, path: str, value: Any) -> tuple[int, Any]:
        """Send JSON; the status and the answer."""
        request = urllib.request.Request(
            self.address + path, json.dumps(value).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read() or "null")

    def submit(self, workflow: dict[str, Any]) -> str:
        """Queue a workflow; its number.

        Raises:
            SystemExit: it is refused.
        """
        status, answer = self.post("/prompt", {"prompt": workflow})
        if status != 200:
            sys.exit(f"refused: {json.dumps(answer, indent=2)}")
        return answer["prompt_id"]

    def wait(self, number: str) -> dict[str, Any]:
        """The history of a workflow, when it has ended."""
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end:
            history = json.loads(self.get(f"/history/{number}"))
            if number in history:
                return history[number]
            time.sleep(0.5)
        sys.exit(f"not done after {_SECONDS} s")


@contextmanager
def running(comfyui: Path, python: str, base: Path) -> Iterator[Server]:
    """A ComfyUI on the CPU, on a free port, with the nodes and a library of two characters."""
    for name in ("custom_nodes", "input", "models"):
        (base / name).mkdir()
    os.symlink(PACK, base / "custom_nodes" / "anystory")
    for name in ("fox.png", "robot.png"):
        shutil.copy(DEMO / name, base / "input" / name)
    environment = os.environ | {"ANYSTORY_CAST": str(base / "cast"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([python, "-c", _CAST.format(demo=str(DEMO))], env=environment, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = base / "log.txt"
    command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"]
    command += ["--disable-api-nodes", "--base-directory", str(base), "--database-url", f"sqlite:///{base}/comfyui.db"]
    with log.open("wb") as lines:
        process = subprocess.Popen(command, cwd=comfyui, env=environment, stdout=lines, stderr=subprocess.STDOUT)
    try:
        server = Server(f"http://127.0.0.1:{port}")
        _wait_for_start(server, process, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for_start(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            kinds = json.loads(server.get("/object_info"))
        except OSError:
            time.sleep(0.5)
            continue
        if "AnyStorySampler" in kinds:
            return
        break
    sys.exit(f"ComfyUI does not run with these nodes:\n{log.read_text(errors='replace')[-6000:]}")


def run(server: Server, name: str, workflow: dict[str, Any], out: Path) -> list[Path]:
    """Run a workflow and fetch the pictures that it keeps or shows."""
    began = time.monotonic()
    history = server.wait(server.submit(workflow))
    if history["status"]["status_str"] != "success":
        sys.exit(f"{name} failed: {_failure(history)}")
    found = []
    for node, shown in sorted(history["outputs"].items(), key=lambda entry: int(entry[0])):
        for place, image in enumerate(shown.get("images", ())):
            path = out / f"{name}-{node}-{place}{Path(image['filename']).suffix}"
            path.write_bytes(server.get("/view", **image))
            found.append(path)
    print(f"{name}: {len(found)} pictures in {time.monotonic() - began:.1f} s")
    return found


def _failure(history: dict[str, Any]) -> str:
    """Why a workflow failed."""
    for kind, message in history["status"]["messages"]:
        if kind == "execution_error":
            return f"{message['node_type']}: {message['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return "interrupted"
    return json.dumps(history["status"])


def check_refusals(server: Server, workflow: dict[str, Any]) -> None:
    """What cannot be is refused: before a run where ComfyUI can know, else in one sentence when a node notices."""
    for node, name, value in (("1", "model", "minni"), ("8", "seed", -1)):
        status, answer = server.post("/prompt", {"prompt": _with(workflow, node, name, value)})
        if status != 400:
            sys.exit(f"{name}={value!r} was not refused")
        refusal = answer["node_errors"][node]["errors"][0]
        print(f"refused before: {refusal['message']}: {refusal['details']}")
    for node, name, value in (("10", "subject", "bear"), ("15", "folder", "../elsewhere")):
        said = _failure(server.wait(server.submit(_with(workflow, node, name, value))))
        if "\n" in said or repr(value) not in said:
            sys.exit(f"{name}={value!r}: {said}")
        print(f"refused meanwhile: {said}")


def check_interruption(server: Server, workflow: dict[str, Any]) -> None:
    """A run of many steps ends soon after it is interrupted."""
    number = server.submit(_with(_with(workflow, "8", "steps", 1000), "8", "seed", 99))
    end = time.monotonic() + _SECONDS
    while not json.loads(server.get("/queue"))["queue_running"] and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(5)  # until it draws
    began = time.monotonic()
    server.post("/interrupt", {})
    said = _failure(server.wait(number))
    if said != "interrupted":
        sys.exit(f"not interrupted: {said}")
    print(f"interrupted within {time.monotonic() - began:.1f} s")


def _with(workflow: dict[str, Any], node: str, name: str, value: Any) -> dict[str, Any]:
    """A workflow with another value of one input."""
    changed = json.loads(json.dumps(workflow))
    changed[node]["inputs"][name] = value
    return changed


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, required=True, help="a checkout of ComfyUI")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with its requirements and anystory")
    parser.add_argument("--out", type=Path, default=Path("tried"), help="where the pictures go")
    parser.add_argument("--flux", type=Path, help="a folder with FLUX.1 and an adapter, for the workflow `flux`")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    flows = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(WORKFLOWS.glob("*.json"))}
    with (
        tempfile.TemporaryDirectory() as base,
        running(given.comfyui.resolve(), given.python, Path(base)) as server,
    ):
        print(f"ComfyUI {json.loads(server.get('/system_stats'))['system']['comfyui_version']}")
        first = run(server, "two_subjects", flows["two_subjects"], given.out)
        shutil.copy(first[0], Path(base) / "input" / "scene.png")
        run(server, "cast_and_regions", flows["cast_and_regions"], given.out)
        run(server, "segment", flows["segment"], given.out)
        if given.flux is not None:
            flux = _with(_with(flows["flux"], "1", "model", str(given.flux.resolve())), "1", "adapter", "")
            for name, value in (("dtype", "float32"), ("offload", "none")):
                flux = _with(flux, "1", name, value)
            run(server, "flux", flux, given.out)
        check_refusals(server, flows["two_subjects"])
        check_interruption(server, flows["two_subjects"])
        run(server, "after_interruption", _with(flows["two_subjects"], "8", "seed", 1), given.out)
    print(f"all workflows ran; look at {given.out}")


if __name__ == "__main__":
    main()
