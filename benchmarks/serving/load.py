"""Loads a server on this machine: throughput, waiting times, memory, with workers that are killed and bad uploads.

    python benchmarks/serving/load.py --seconds 1800 --clients 6 --kill-every 60     # the full run: half an hour
    python benchmarks/serving/load.py --seconds 120 --clients 8 --batch 1            # one by one
    python benchmarks/serving/load.py --seconds 120 --clients 8 --batch 4            # together

Each client asks for a picture, waits for it, and asks again. The numbers are rates of this machine, never assertions;
what is asserted is that nothing accepted is lost and that no answer is a 5xx.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil

GROWN = 25.0
"""Seconds after which a worker has its model and has drawn."""

DEMO = Path(__file__).parents[2] / "src" / "anystory" / "assets" / "demo"


class Load:
    """What the clients do, and what they have seen."""

    def __init__(self, url: str, steps: int, until: float) -> None:
        self.url, self.steps, self.until = url, steps, until
        self.seconds: list[float] = []
        self.answers: Counter[str] = Counter()
        self.lock = threading.Lock()

    def client(self, number: int) -> None:
        draws = random.Random(number)
        with httpx.Client(base_url=self.url, timeout=600) as http:
            fox = http.post("/v1/uploads", files={"file": ("fox.png", (DEMO / "fox.png").read_bytes())}).json()["id"]
            while time.time() < self.until:
                if draws.random() < 0.1:
                    self.bad_upload(http, draws)
                self.picture(http, fox, draws)

    def picture(self, http: httpx.Client, fox: str, draws: random.Random) -> None:
        body = {"prompt": "a red fox on a beach", "steps": self.steps, "seed": draws.randrange(2**31)}
        began = time.time()
        answer = http.post("/v1/images/generations", json=body | {"subjects": [{"uploads": [fox]}]})
        with self.lock:
            self.answers[f"picture {answer.status_code}"] += 1
            if answer.status_code == 200:
                self.seconds.append(time.time() - began)

    def bad_upload(self, http: httpx.Client, draws: random.Random) -> None:
        content = draws.choice([b"", b"GIF89a", (DEMO / "fox.png").read_bytes()[: draws.randrange(500)], bytes(10**6)])
        answer = http.post("/v1/uploads", files={"file": ("a.png", content)})
        with self.lock:
            self.answers[f"bad upload {answer.status_code}"] += 1


def worker_of(server: subprocess.Popen[str]) -> psutil.Process | None:
    children = psutil.Process(server.pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss, default=None)


def mebibytes(process: psutil.Process | None) -> float:
    try:
        return 0.0 if process is None else process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def watch(server: subprocess.Popen[str], load: Load, kill_every: float) -> tuple[list[float], list[float], int]:
    """The memory of server and worker over time; the worker is killed now and then.

    A young worker is left out: it is still loading, and would make the memory look as if it grew.
    """
    face, worker, kills, next_kill = [], [], 0, time.time() + kill_every
    while time.time() < load.until:
        time.sleep(2)
        found = worker_of(server)
        face.append(mebibytes(psutil.Process(server.pid)))
        if found is not None and found.is_running() and time.time() - found.create_time() > GROWN:
            worker.append(mebibytes(found))
        if kill_every and time.time() > next_kill and found is not None:
            found.kill()
            kills, next_kill = kills + 1, time.time() + kill_every
    return face, worker, kills


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--kill-every", type=float, default=0, help="seconds; 0 for never")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "anystory", "serve", "--port", "0", "--data", data, "--model", given.model]
        command += ["--threads", "1", "--batch", str(given.batch)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        found = re.match(r"listening on (\S+)", server.stdout.readline())
        assert found is not None
        try:
            report(run(server, found[1], given), given)
        finally:
            server.terminate()
            server.wait()


def run(server: subprocess.Popen[str], url: str, given: argparse.Namespace) -> dict[str, object]:
    while httpx.get(f"{url}/readyz").status_code != 200:
        time.sleep(0.5)
    load = Load(url, given.steps, time.time() + given.seconds)
    clients = [threading.Thread(target=load.client, args=(number,)) for number in range(given.clients)]
    for client in clients:
        client.start()
    face, worker, kills = watch(server, load, given.kill_every)
    for client in clients:
        client.join()
    metrics = httpx.get(f"{url}/metrics").text
    states = dict(re.findall(r'anystory_jobs_ended_total\{kind="picture",state="(\w+)"\} (\d+)', metrics))
    accepted = re.search(r'anystory_jobs_accepted_total\{kind="picture"\} (\d+)', metrics)
    assert accepted is not None
    assert sum(map(int, states.values())) == int(accepted[1]), "an accepted job was lost"
    assert not [answer for answer in load.answers if answer.endswith(("500", "502", "503"))], load.answers
    together = re.findall(r"anystory_batch_pictures_(sum|count) ([\d.]+)", metrics)
    return {"load": load, "face": face, "worker": worker, "kills": kills, "states": states, "together": dict(together)}


def report(found: dict, given: argparse.Namespace) -> None:
    load: Load = found["load"]
    seconds = sorted(load.seconds)
    print(f"{len(seconds)} pictures of {given.steps} steps, {given.clients} clients, batch {given.batch}")
    print(f"throughput    {len(seconds) / given.seconds * 60:.1f} pictures a minute")
    if len(seconds) > 1:
        p95 = statistics.quantiles(seconds, n=20)[-1]
        print(f"waiting       p50 {statistics.median(seconds):.2f} s, p95 {p95:.2f} s")
    together = found["together"]
    print(f"together      {float(together['sum']) / max(float(together['count']), 1):.2f} pictures in a call")
    print(f"killed        {found['kills']} workers; jobs {found['states']}; answers {dict(load.answers)}")
    for name in ("face", "worker"):
        sizes = [size for size in found[name] if size]
        fifth = max(len(sizes) // 5, 1)
        first, last = statistics.mean(sizes[fifth : 2 * fifth] or sizes), statistics.mean(sizes[-fifth:])
        shown = f"{first:.0f} MiB in the second fifth, {last:.0f} in the last, {max(sizes):.0f} at most"
        print(f"memory        {name}: {shown}")


if __name__ == "__main__":
    main()
