"""A model folder whose router knows nothing yet: trained encoders, a fresh routing QFormer and fresh routers.

What to compare routers from (docs/decisions.md, D5):

    python benchmarks/fresh_router.py shared runs/shared-start --coarse-weight 0
    anystory train router --recipe runs/shared-start/recipe.yaml --start runs/shared-start --out runs/shared --minutes 8
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from start_folder import check_new, recipe_values, write_start

from anystory.models import SubjectAdapter
from anystory.models.configs import MapProjections, RoutingFeatures
from anystory.pipelines.loading.assets import resolve_model

ENCODERS = ("subject_qformer", "reference_net", "cross_projections", "reference_projections")


def fresh_router(
    trained: SubjectAdapter, kind: MapProjections, seed: int, features: RoutingFeatures = "decoupled"
) -> SubjectAdapter:
    """An adapter with the encoders of `trained` and, from `seed`, routing features and routers of the given kinds."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        config = replace(trained.sizes, map_projections=kind, routing_features=features)
        fresh = SubjectAdapter(unet_config=dict(trained.config["unet_config"]), adapter_config=vars(config))
    for name in ENCODERS:
        fresh.get_submodule(name).load_state_dict(trained.get_submodule(name).state_dict())
    return fresh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=get_args(MapProjections))
    parser.add_argument("out", type=Path, help="folder to write; it must not exist yet")
    parser.add_argument("--model", default="mini", help="the model whose encoders it has")
    parser.add_argument("--recipe", default="mini-128", help="whose stage `router` goes to OUT/recipe.yaml")
    parser.add_argument("--coarse-weight", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, help="samples a step; the recipe's if not given")
    parser.add_argument("--paper", action="store_true", help="λ = 0.1 and no background in the loss, as in the paper")
    parser.add_argument("--features", choices=get_args(RoutingFeatures), default="decoupled", help="as D16 says")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    check_new(options.out)
    values = recipe_values(options.recipe, "router")
    values["adapter"] |= {"map_projections": options.kind, "routing_features": options.features}
    router = values["stages"]["router"]
    router["batch_size"] = options.batch_size or router["batch_size"]
    router["options"]["coarse_weight"] = options.coarse_weight
    if options.paper:
        router["options"] |= {"route_loss_weight": 0.1, "include_background": False}
    trained = SubjectAdapter.from_pretrained(Path(resolve_model(options.model)) / "adapter").float()
    adapter = fresh_router(trained, options.kind, options.seed, options.features)
    write_start(options.out, options.model, values, adapter)


if __name__ == "__main__":
    main()
