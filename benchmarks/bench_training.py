"""How many samples a second each diffusion stage trains, plainly and as `anystory train` runs it.

    python benchmarks/bench_training.py [--model mini] [--steps 6] [--threads 0] [--json PATH]

Plain is fp32 with torch's own choice of attention. Drawing the samples is left out: a process of its own does it.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from anystory.pipelines.assets import resolve_model
from anystory.precision import bf16_is_native
from anystory.training.components import ModelFolder
from anystory.training.devices import forward_pass
from anystory.training.recipe import load_recipe
from anystory.training.stages import build_stage
from anystory.training.stream import collate

STAGES = ("base", "encoder", "router")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--recipe", default="mini-cpu")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = load_recipe(arguments.recipe)
    folder = ModelFolder(Path(resolve_model(arguments.model)), recipe)
    print(f"{device.type}, {torch.get_num_threads()} threads, native bf16: {bf16_is_native(device)}")
    print(f"{'stage':10}{'batch':>6}{'plain':>10}{'ours':>10}{'ratio':>8}")
    results = {}
    for name in STAGES:
        stage = build_stage(name, folder).to(device)
        parameters = stage.trained_parameters()
        for parameter in stage.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, fused=True)
        batch_size = recipe.stages[name].batch_size
        fetch = stage.fetch()
        drawn = collate([fetch(i) for i in range(batch_size)])
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in drawn.items()}
        rates = {}
        for label in ("plain", "ours"):
            for step in range(arguments.steps + 1):
                if step == 1:  # the first one warms up
                    start = time.perf_counter()
                with nullcontext() if label == "plain" else forward_pass(device, "auto"):
                    losses = stage(batch, torch.Generator(device=device).manual_seed(step))
                losses["loss"].backward()
                torch.nn.utils.clip_grad_norm_(list(parameters.values()), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if device.type == "cuda":
                    torch.cuda.synchronize()
            rates[label] = arguments.steps * batch_size / (time.perf_counter() - start)
        rates["ratio"] = rates["ours"] / rates["plain"]
        results[name] = rates
        print(f"{name:10}{batch_size:6}{rates['plain']:8.1f}/s{rates['ours']:8.1f}/s{rates['ratio']:8.2f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
