"""SubjectAdapter: all trained modules together, apart from the frozen base they are made for.

Shapes: B samples, N subjects, S = N + 1 slots with the background last, P image tokens of width Dc,
c latent channels, h × w reference latent size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from typing_extensions import Self

from anystory.input_files import damaged_files_named
from anystory.models.attention import KeyValue, RoutedCrossAttnProcessor, RoutedSelfAttnProcessor
from anystory.models.configs import AdapterConfig, check_default_call
from anystory.models.encoders import (
    CoupledRouting,
    EncodedSubjects,
    check_references,
    encode_slots,
    routing_qformer,
    scatter_present,
    subject_qformer,
)
from anystory.models.familiarity import Familiarity
from anystory.models.install import Processor, installed
from anystory.models.layout import check_layout, describe_layout, layout_of_config
from anystory.models.reference_net import ReferenceNet, config_of_unet
from anystory.models.router import Router
from anystory.models.saved.key_report import CheckpointKeyError, KeyReport
from anystory.models.saved.model_card import model_card
from anystory.models.saved.saving import UNKNOWN_ORIGIN, save_adapter
from anystory.quiet import quiet_loading

Stage = Literal["encoder", "router"]

# Module names of the two training stages (3.4).
_STAGES: dict[str, tuple[str, ...]] = {
    "encoder": ("subject_qformer", "reference_net", "cross_projections", "reference_projections"),
    "router": ("routing_qformer", "coupled_routing", "routers"),
}

# What `from_pretrained` needs to find a configuration.
_CONFIG_OPTIONS = ("subfolder", "cache_dir", "force_download", "proxies", "token", "local_files_only", "revision")

# A fresh Ŵ_v makes injected values this small against the text's, so that training starts near the base
# model; zero would start nearer, but then nothing before Ŵ_v gets a gradient.
_INITIAL_VALUE = 0.1


class SubjectAdapter(ModelMixin, ConfigMixin):
    """Encoders, router and projections of AnyStory for one kind of U-Net, which itself is never altered.

    Args:
        unet_config: configuration of the `UNet2DConditionModel` it is made for.
        adapter_config: fields of an `AdapterConfig`.
        default_call: {argument of a pipeline's call: number} for pictures with this adapter's subjects, where neither
            the caller nor the base says anything: `num_inference_steps`, `guidance_scale`.
        segmentation: How a pipeline's `segment` fuses the router's maps, fitted to them (`Fusion.to_dict`).

    Raises:
        ValueError: a size or default is not valid, or the U-Net is not of the SDXL kind.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = [
        "BasicTransformerBlock",
        "ResnetBlock2D",
        "IPAdapterPlusImageProjectionBlock",
    ]

    @register_to_config
    def __init__(
        self,
        unet_config: dict[str, Any],
        adapter_config: dict[str, Any],
        default_call: dict[str, int | float] | None = None,
        segmentation: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_default_call(default_call)
        try:
            sizes = AdapterConfig(**adapter_config)
        except TypeError as error:  # a key too many or too few, e.g. in an edited config.json
            raise ValueError(f"adapter_config: {error}") from None
        layers = layout_of_config(unet_config)
        self.sizes = sizes
        """The adapter's own sizes."""
        self.layers = layers
        """The attention layers it is made for, in the order of execution."""
        self.reference_net = ReferenceNet(unet_config)
        self.subject_qformer = subject_qformer(sizes)
        coupled = sizes.routing_features == "coupled"
        self.routing_qformer = None if coupled else routing_qformer(sizes)
        self.coupled_routing = CoupledRouting(sizes) if coupled else None
        """One of the two is there (D16)."""
        components = sizes.familiarity_components
        self.familiarity = None if components is None else Familiarity(sizes.clip_dim, components)
        """Knows references that are unlike all that it was trained on; None where nobody has asked them."""
        self.routers = _by_layer(
            (
                layer.cross_attention,
                Router(layer.dim, sizes.routing_dim, sizes.router_dim, sizes.router_heads, sizes.map_projections),
            )
            for layer in layers
        )
        self.cross_projections = _by_layer(
            (layer.cross_attention, KeyValue(sizes.token_dim, layer.inner_dim)) for layer in layers
        )
        self.reference_projections = _by_layer(
            (layer.self_attention, KeyValue(layer.dim, layer.inner_dim)) for layer in layers[1:]
        )

    @property
    def default_call(self) -> dict[str, int | float]:
        """The adapter's own values for arguments of a pipeline's call; empty where it has none."""
        return dict(self.config.get("default_call") or {})

    @classmethod
    def from_unet(
        cls, unet: UNet2DConditionModel, config: AdapterConfig, default_call: Mapping[str, int | float] | None = None
    ) -> Self:
        """A fresh adapter on the U-Net's device and in its dtype.

        ReferenceNet and `W̃` start from the U-Net's weights, `Ŵ` small and random.

        Args:
            unet: the base.
            config: the adapter's sizes.
            default_call: see the class.

        Raises:
            ValueError: the U-Net is not of the SDXL kind.
        """
        calls = None if default_call is None else dict(default_call)
        with unet.device:
            adapter = cls(unet_config=config_of_unet(unet), adapter_config=asdict(config), default_call=calls)
        if adapter.dtype != unet.dtype:
            adapter.to(dtype=unet.dtype)  # pyright: ignore[reportCallIssue]
        adapter._initialise(unet)
        return adapter

    def note(self, *, max_subjects: int | None = None, familiarity: Familiarity | None = None) -> None:
        """Write down what it was trained on, to be saved with it.

        Args:
            max_subjects: The most subjects in a picture; the larger counts where it knows a number already.
            familiarity: Of its references' features, on any device and in any type.
        """
        if max_subjects is not None:
            self.sizes = replace(self.sizes, max_subjects=max(max_subjects, self.sizes.max_subjects or 0))
        if familiarity is not None:
            self.sizes = replace(self.sizes, familiarity_components=len(familiarity.directions))
            self.familiarity = familiarity.to(self.device, self.dtype)
        self.register_to_config(adapter_config=asdict(self.sizes))

    def encode(
        self,
        image_hidden: Tensor,
        zero_hidden: Tensor,
        reference_latents: Tensor,
        reference_masks: Tensor,
        present: Tensor,
    ) -> EncodedSubjects:
        """Encodes the subjects of B samples; all references run through each network as one batch.

        Args:
            image_hidden: (B, N, P, Dc) CLIP's penultimate hidden states of the segmented references. P may be
                a multiple of `clip_tokens`: several photos of a subject are one sequence (D15).
            zero_hidden: (1, P, Dc) the same of the all-zero image.
            reference_latents: (B, N, c, h, w) scaled VAE latents of the segmented references.
            reference_masks: (B, N, 1, h, w) subject masks in [0, 1] at latent size.
            present: (B, N) bool, False for padding.

        Returns:
            The encoded subjects; padding's features are zero.

        Raises:
            ValueError: a shape is not as above.
        """
        check_references(self.sizes, image_hidden, zero_hidden, reference_latents, reference_masks, present)
        # A batch without any subject runs on its padding: the shapes are needed, and no slot owns a pixel.
        computed = present if present.any() else torch.ones_like(present)
        chosen = computed.flatten()
        features = self.reference_net(
            reference_latents.flatten(0, 1)[chosen].to(self.dtype), reference_masks.flatten(0, 1)[chosen]
        )
        image_hidden, zero_hidden = image_hidden.to(self.dtype), zero_hidden.to(self.dtype)
        tokens = encode_slots(self.subject_qformer, image_hidden, zero_hidden, computed)
        return EncodedSubjects(
            tokens=tokens,
            routing=self.routing_of(tokens, lambda own: encode_slots(own, image_hidden, zero_hidden, computed)),
            features={
                layer: scatter_present(value, computed).unflatten(0, present.shape) for layer, value in features.items()
            },
            present=nn.functional.pad(present, (0, 1), value=True),
        )

    def routing_of(self, tokens: Tensor, encode: Callable[[IPAdapterPlusImageProjection], Tensor]) -> Tensor:
        """The routing features `R` (…, S, d_r) of S slots.

        Args:
            tokens: (…, S, m, c), `E`; read where the two are coupled (D16).
            encode: what the routing QFormer makes of the same slots, (…, S, 1, d_r); called where they are not.
        """
        if self.coupled_routing is not None:
            return self.coupled_routing(tokens)
        assert self.routing_qformer is not None
        return encode(self.routing_qformer).squeeze(-2)

    def project(self, encoded: EncodedSubjects) -> EncodedSubjects:
        """The same subjects with the keys and values of every layer in the place of `G`, which nothing reads any more.

        What no step and no later picture repeats. The plain form, and training, take `encoded` itself.
        """
        projected = {
            layer.cross_attention: self._projection(layer.cross_attention)(encoded.tokens) for layer in self.layers
        }
        for layer, features in encoded.features.items():
            projected[layer] = self._projection(layer)(features)
        return replace(encoded, features={}, projected=projected)

    @contextmanager
    def installed_on(self, unet: UNet2DConditionModel) -> Iterator[None]:
        """While open, `unet` takes `cross_attention_kwargs={"subject_conditioning": …}`.

        Without that keyword it computes what it computed before. At the end its own processors are restored,
        whatever happened inside. With gradient checkpointing the backward pass belongs inside, too: it runs the
        U-Net's blocks again.

        Raises:
            ValueError: the adapter was made for another kind of U-Net.
        """
        self.check_fits(unet)
        with installed(self._processors(), unet):
            yield

    def check_fits(self, unet: UNet2DConditionModel) -> None:
        """Raises ValueError, saying where, if the U-Net's attention layers are not those of the adapter."""
        check_layout(unet, self.layers)

    def stage_parameters(self, stage: Stage) -> dict[str, nn.Parameter]:
        """{name: parameter} that a training stage trains (3.4).

        Args:
            stage: "encoder" (subject QFormer, ReferenceNet, Ŵ, W̃) or "router" (routing QFormer, routers).

        Raises:
            ValueError: another stage.
        """
        if stage not in _STAGES:
            raise ValueError(f"stage must be one of {', '.join(map(repr, _STAGES))}, got {stage!r}")
        return {
            name: parameter for name, parameter in self.named_parameters() if name.partition(".")[0] in _STAGES[stage]
        }

    @classmethod
    @quiet_loading()
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, **kwargs: Any) -> Any:
        """Loads what `save_pretrained` saved, from safetensors only; the base's weights are not needed.

        Arguments as in diffusers' `ModelMixin.from_pretrained`.

        Raises:
            CheckpointKeyError: a key is missing, unexpected or of another shape (a ValueError; all of them are in
                its `report`).
            ValueError: it is no adapter at all.
            OSError: files are not there, or cannot be read.
        """
        options = {name: kwargs[name] for name in _CONFIG_OPTIONS if name in kwargs}
        source = cast("str", pretrained_model_name_or_path)
        with damaged_files_named(os.path.join(source, kwargs.get("subfolder") or "")):
            return cls._read(source, options, kwargs)

    @classmethod
    def _read(cls, source: str, options: dict[str, Any], kwargs: dict[str, Any]) -> Any:
        config = cast("dict[str, Any]", cls.load_config(source, **options))
        if not {"unet_config", "adapter_config"} <= config.keys():
            found = config.get("_class_name") or "a model of another kind"
            raise ValueError(f"{source} holds {found}, not a SubjectAdapter")
        want_info = kwargs.pop("output_loading_info", False)
        # Tolerated here, reported below: diffusers alone would warn, or stop at the first wrong shape.
        kwargs.update(use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True)
        loaded: tuple[Self, dict[str, list[Any]]] = super().from_pretrained(source, **kwargs)  # type: ignore[assignment]
        adapter, info = loaded
        report = KeyReport.of_loading_info(info)
        if report:
            raise CheckpointKeyError(f"{source} is not a whole adapter", report)
        return (adapter, info) if want_info else adapter

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        max_shard_size: int | str = "10GB",
        variant: str | None = None,
        safe_serialization: bool = True,
        push_to_hub: bool = False,
        origin: str = UNKNOWN_ORIGIN,
    ) -> None:
        """Writes safetensors (sharded), `config.json`, `SHA256SUMS.txt` and, where there is none yet, a README.md.

        A new folder appears whole or not at all. In one that exists, other files stay and the weights of the same
        variant are replaced after the new ones have been written.

        Args:
            save_directory: the folder.
            max_shard_size, variant: as in diffusers.
            safe_serialization, push_to_hub: as in diffusers; only the defaults are allowed.
            origin: a paragraph for the README.md on where the weights come from.

        Raises:
            ValueError: an option that would write a pickle or upload, or `save_directory` is a file.
        """
        if not safe_serialization:
            raise ValueError("`safe_serialization` must be True, got False: weights are written as safetensors")
        if push_to_hub:
            raise ValueError(
                "`push_to_hub` must be False: save to a folder, look at it, then upload it with `hf upload`"
            )
        write = partial(super().save_pretrained, max_shard_size=max_shard_size, variant=variant)
        card = model_card(
            sizes=self.sizes,
            fits=describe_layout(self.layers),
            parameters={name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()},
            calls=self.default_call,
            origin=origin,
        )
        save_adapter(write, save_directory, card=card, variant=variant)

    @torch.no_grad()
    def _initialise(self, unet: UNet2DConditionModel) -> None:
        self.reference_net.copy_weights(unet)
        for layer in self.layers:
            projection = self._projection(layer.cross_attention)
            nn.init.normal_(projection.to_k.weight, std=self.sizes.token_dim**-0.5)
            nn.init.normal_(projection.to_v.weight, std=_INITIAL_VALUE * self.sizes.token_dim**-0.5)
        for layer in self.layers[1:]:
            projection = self._projection(layer.self_attention)
            attention = cast(Any, unet.get_submodule(layer.self_attention))
            projection.to_k.weight.copy_(attention.to_k.weight)
            projection.to_v.weight.copy_(attention.to_v.weight)

    def _projection(self, layer: str) -> KeyValue:
        key = _key(layer)
        owner = self.cross_projections if key in self.cross_projections else self.reference_projections
        return cast(KeyValue, owner[key])

    def _processors(self) -> dict[str, Processor]:
        processors: dict[str, Processor] = {}
        preceding = None
        for layer in self.layers:
            own, cross = layer.self_attention, layer.cross_attention
            projection = None if preceding is None else self._projection(own)
            router = cast(Router, self.routers[_key(cross)])
            processors[own] = RoutedSelfAttnProcessor(own, preceding, projection)
            processors[cross] = RoutedCrossAttnProcessor(cross, router, self._projection(cross))
            preceding = cross
        return processors


def _by_layer(modules: Iterable[tuple[str, nn.Module]]) -> nn.ModuleDict:
    return nn.ModuleDict({_key(layer): module for layer, module in modules})


def _key(layer: str) -> str:
    # A ModuleDict's keys may not contain dots.
    return layer.replace(".", "-")
