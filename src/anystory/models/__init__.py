"""The model: encoders, ReferenceNet, router, attention processors and the adapter that holds them.

Names are imported when they are first used, so that reading a preset does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anystory.models.adapter import SubjectAdapter as SubjectAdapter
    from anystory.models.conditioning import RecordedMaps as RecordedMaps
    from anystory.models.conditioning import SubjectConditioning as SubjectConditioning
    from anystory.models.configs import PRESETS as PRESETS
    from anystory.models.configs import AdapterConfig as AdapterConfig
    from anystory.models.encoders import EncodedSubjects as EncodedSubjects
    from anystory.models.gates import Argmax as Argmax
    from anystory.models.gates import Everywhere as Everywhere
    from anystory.models.gates import FixedMaps as FixedMaps
    from anystory.models.gates import FixedRegions as FixedRegions
    from anystory.models.gates import Gumbel as Gumbel
    from anystory.models.layout import AttentionLayer as AttentionLayer
    from anystory.models.layout import unet_layout as unet_layout
    from anystory.models.reference_net import ReferenceNet as ReferenceNet
    from anystory.models.router import Router as Router
    from anystory.models.router import RoutingMaps as RoutingMaps
    from anystory.models.router import routing_loss as routing_loss

_HOMES = {
    "AdapterConfig": "configs",
    "Argmax": "gates",
    "AttentionLayer": "layout",
    "EncodedSubjects": "encoders",
    "Everywhere": "gates",
    "FixedMaps": "gates",
    "FixedRegions": "gates",
    "Gumbel": "gates",
    "PRESETS": "configs",
    "RecordedMaps": "conditioning",
    "ReferenceNet": "reference_net",
    "Router": "router",
    "RoutingMaps": "router",
    "SubjectAdapter": "adapter",
    "SubjectConditioning": "conditioning",
    "routing_loss": "router",
    "unet_layout": "layout",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
