"""Makes `official.safetensors`: `python make_official.py CHECKOUT`, a checkout of junjiehe96/AnyStory (commit c38fef8).

It runs the authors' own functions on the tiny FLUX of `official_tiny.py` in fp32 and writes their inputs and results.
With diffusers 0.42.1, transformers 5.23.0, peft 0.21.2 and torch 2.13.0 on a CPU, 25 November 2026.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from official_tiny import (
    BLOCKS,
    GUIDANCE,
    RANK,
    REDUX_DIM,
    REFERENCE_SIDE,
    SIZES,
    STEPS,
    TEXT_DIM,
    TIMES,
    WIDTH,
    WINDOWS,
    Case,
    build_checkpoint,
    build_inputs,
    build_transformer,
    build_vae,
    cases,
    ids,
)
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, sys.argv[1])

from anystory.attention_processor import AnyStoryFluxAttnProcessor2_0
from anystory.generate import AnyStoryFluxPipeline, generate
from anystory.module import AnyStoryReduxImageEncoder
from anystory.transformer import tranformer_forward


class Official:
    """The authors' model with one checkpoint in it."""

    def __init__(self, lora_bias: bool, folder: Path) -> None:
        transformer = build_transformer()
        vae = build_vae()
        self.checkpoint = build_checkpoint(transformer, lora_bias)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        nothing: Any = None
        self.pipe = FluxPipeline(scheduler, vae, nothing, nothing, nothing, nothing, transformer)
        self.pipe.set_progress_bar_config(disable=True)
        names = transformer.attn_processors
        transformer.set_attn_processor({n: AnyStoryFluxAttnProcessor2_0(WIDTH, RANK, True) for n in names})
        sizes = {"redux_dim": REDUX_DIM, "txt_in_features": TEXT_DIM, "lora_rank": RANK}
        self.redux = AnyStoryReduxImageEncoder(**sizes, output_size=9).eval()
        self.router = AnyStoryReduxImageEncoder(**sizes, output_size=3).eval()
        torch.save(self.checkpoint, folder / "anystory_flux.bin")
        AnyStoryFluxPipeline.load_anystory_model(self.pipe, self.redux, self.router, str(folder / "anystory_flux.bin"))

    def caches(self) -> dict[str, dict[str, Tensor]]:
        return {n: p.ref_bank for n, p in self.pipe.transformer.attn_processors.items() if p.ref_bank}

    def forget(self) -> None:
        for processor in self.pipe.transformer.attn_processors.values():
            processor.ref_bank = {}


def main() -> None:
    inputs, found = build_inputs(), dict[str, Tensor]()
    folder = Path(__file__).parent
    officials = {bias: Official(bias, Path("/tmp")) for bias in (False, True)}
    for bias, official in officials.items():
        masks = inputs["siglip mask"][..., None]
        found[f"redux {bias}"] = official.redux(inputs["siglip"], masks)
        found[f"router {bias}"] = official.router(inputs["siglip"], masks)
    for case in cases():
        found |= {f"{case.name}: {name}": value for name, value in run(officials[case.lora_bias], case, inputs, found)}
    given = {f"given {name}": value for name, value in inputs.items()}
    given |= {f"transformer {name}": value for name, value in build_transformer().state_dict().items()}
    for bias, official in officials.items():
        for part, tensors in official.checkpoint.items():
            given |= {f"checkpoint {bias} {part} {name}": value for name, value in tensors.items()}
    everything = {name: value.detach().clone().contiguous() for name, value in (given | found).items()}
    save_file(everything, folder / "official.safetensors")
    print(len(everything), "tensors,", sum(v.nbytes for v in everything.values()), "bytes")


@torch.no_grad()
def run(official: Official, case: Case, inputs: dict[str, Tensor], encoded: dict[str, Tensor]):
    rows, columns = SIZES[case.size]
    settings, n, bias, side = case.settings, case.subjects, case.lora_bias, REFERENCE_SIDE
    redux = list(encoded[f"redux {bias}"][:n].unsqueeze(1)) if settings["redux"] else []
    routing = list(encoded[f"router {bias}"][:n].unsqueeze(1)) if settings["router"] else []
    references = list(inputs["reference"][:n].unsqueeze(1))
    mask = inputs["reference mask"][:n].reshape(1, -1, 1) if settings["masks"] and n else None
    zeros = lambda tokens: torch.zeros(tokens.shape[1], 3)  # noqa: E731

    # Two calls of the transformer: the one that fills the cache, and one that reads it.
    maps = record_maps()
    stacked = {
        "redux_hidden_states": torch.cat(redux, dim=1) * 0.6 if redux else None,
        "ref_hidden_states": torch.cat(references, dim=1) if n else None,
        "router_hidden_states": torch.cat(routing, dim=1) if routing else None,
    }
    if redux:
        stacked["redux_ids"] = zeros(stacked["redux_hidden_states"])
    if routing:
        stacked["router_ids"] = zeros(stacked["router_hidden_states"])
    if n:
        stacked["ref_ids"] = ids(side, side, side).repeat(n, 1)
    for number, time in enumerate(TIMES):
        config = {"cache_ref": n and number == 0, "use_ref_cache": n and number > 0, "ref_shift": settings["shift"]}
        config |= {"ref_mask": mask, "num_conds": n}
        output = tranformer_forward(
            official.pipe.transformer,
            **stacked,
            model_config=config,
            hidden_states=inputs[f"latents {case.size}"],
            timestep=torch.tensor([time]),
            guidance=torch.tensor([GUIDANCE]),
            pooled_projections=inputs["pooled"],
            encoder_hidden_states=inputs["text"],
            txt_ids=torch.zeros(inputs["text"].shape[1], 3),
            img_ids=ids(rows, columns),
            return_dict=False,
        )[0]
        yield f"output {number}", output
        if maps and len(maps) == 2 * BLOCKS:
            yield f"owners {number}", torch.stack([m[0].argmax(dim=0) for m in maps]).to(torch.uint8)
        maps.clear()
    if case.mode == "redux":
        for layer, bank in official.caches().items():
            block = layer.removesuffix(".attn.processor")
            yield f"key {block}", bank["ref_key"]
            yield f"value {block}", bank["ref_value"]
    official.forget()

    for steps in STEPS:
        latents = generate(
            official.pipe,
            redux_conditions=[(tokens, zeros(tokens)) for tokens in redux],
            ref_conditions=[(tokens, ids(side, side, side)) for tokens in references],
            router_conditions=[(tokens, zeros(tokens)) for tokens in routing],
            redux_scale=0.6,
            redux_start_at=WINDOWS["redux"][0],
            redux_end_at=WINDOWS["redux"][1],
            ref_shift=settings["shift"],
            ref_mask=mask,
            ref_start_at=WINDOWS["reference"][0],
            ref_end_at=WINDOWS["reference"][1],
            enable_ref_cache=True,
            height=16 * rows,
            width=16 * columns,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            latents=inputs[f"latents {case.size}"],
            prompt_embeds=inputs["text"],
            pooled_prompt_embeds=inputs["pooled"],
            output_type="latent",
        ).images
        yield f"latents {steps}", latents
        maps.clear()
        official.forget()


def record_maps() -> list[Tensor]:
    """Every routing map that is computed from now on."""
    maps: list[Tensor] = []
    computed = _COMPUTED

    def record(self: Any, *args: Any) -> Tensor:
        maps.append(computed(self, *args))
        return maps[-1]

    AnyStoryFluxAttnProcessor2_0.calculate_routing_maps = record
    return maps


_COMPUTED = AnyStoryFluxAttnProcessor2_0.calculate_routing_maps

if __name__ == "__main__":
    main()
