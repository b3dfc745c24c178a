"""AnyStory on top of a diffusers pipeline: encode subjects, hand one object to the U-Net, let the parent draw.

Everything that makes a picture (text encoding, scheduler, loop, guidance, VAE, callbacks, offloading) stays
the parent's. A pipeline is one short class, `class X(AnyStoryMixin, SomeSDXLPipeline)`; see `sdxl.py`.

Shapes: B = prompts × images per prompt, prompts outermost as in diffusers; N subjects, padded to the longest
list; H × W pixels of the picture.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_type_hints

import torch
from diffusers import StableDiffusionXLControlNetInpaintPipeline, StableDiffusionXLPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils.torch_utils import is_compiled_module
from torch import Tensor

from anystory.models.adapter import SubjectAdapter
from anystory.models.conditioning import SubjectConditioning
from anystory.models.fast_paths import ALL, FastPaths
from anystory.models.patch_autoencoder import PatchAutoencoder
from anystory.pipelines import inputs
from anystory.pipelines.conversion import ConversionMixin
from anystory.pipelines.encoding import SubjectEncoding, encode_references, stack_encodings
from anystory.pipelines.inputs import Rows, Subjects
from anystory.pipelines.loading import LoadingMixin
from anystory.pipelines.offload import OffloadMixin
from anystory.pipelines.output import AnyStoryOutput
from anystory.pipelines.routing_record import RoutingRecord
from anystory.pipelines.steps import ScaleSchedule, StepHook
from anystory.subjects import Subject

__all__ = ["AnyStoryMixin"]

_CONDITIONING = "subject_conditioning"
# What diffusers' SDXL pipelines still read from their `**kwargs`; they ignore everything else in there.
_DEPRECATED = {"callback", "callback_steps"}
# Between them they take every argument of the SDXL pipelines: a model's own values serve whichever it is used with.
_ALL_ARGUMENTS = (StableDiffusionXLPipeline, StableDiffusionXLControlNetInpaintPipeline)


class AnyStoryMixin(OffloadMixin, ConversionMixin, LoadingMixin):
    """Subjects for a diffusers pipeline with an SDXL-like U-Net. Put it before the pipeline among the bases.

    Args:
        *args, **components: The parent's components.
        adapter: The trained parts of AnyStory; without it the pipeline is the stock one, without subjects. It
            is a component: it moves, saves and loads with the rest.
        default_call: The model's own values for arguments of the parent's call, e.g.
            `{"num_inference_steps": 25, "guidance_scale": 7.5}`; saved in `model_index.json`. A value for another
            pipeline's argument (`strength` in text to image) is kept for that one.

    Raises:
        ValueError: a default for something that no SDXL pipeline takes.
    """

    # Set by the parent.
    unet: Any
    vae: Any
    vae_scale_factor: int
    default_sample_size: int
    do_classifier_free_guidance: bool

    def __init__(
        self,
        *args: Any,
        adapter: SubjectAdapter | None = None,
        default_call: Mapping[str, Any] | None = None,
        **components: Any,
    ) -> None:
        super().__init__(*args, **components)
        self.register_modules(adapter=adapter)
        known = {name for kind in _ALL_ARGUMENTS for name in inspect.signature(kind.__call__).parameters}
        known |= inspect.signature(self._parent_call).parameters.keys()
        for name, value in (default_call or {}).items():
            if name not in known:
                raise ValueError(f"`default_call` has {name!r}: {value!r}, no argument of {type(self).__name__}")
        self.register_to_config(default_call=dict(default_call or {}))

    def __init_subclass__(cls, **options: Any) -> None:
        """Spell out the constructor: diffusers reads a pipeline's components off its arguments and types."""
        super().__init_subclass__(**options)
        if "adapter" in cls._optional_components:
            return  # a subclass of a pipeline that has it all

        def __init__(self: AnyStoryMixin, *args: Any, **components: Any) -> None:
            AnyStoryMixin.__init__(self, *args, **components)

        parent = super().__init__  # of the base that follows this mixin
        signature, own = inspect.signature(parent), inspect.signature(AnyStoryMixin.__init__).parameters
        parameters = [*signature.parameters.values(), own["adapter"], own["default_call"]]
        types = get_type_hints(parent)
        __init__.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        __init__.__annotations__ = types | {
            "vae": types["vae"] | PatchAutoencoder,
            "adapter": SubjectAdapter | None,
        }
        cls.__init__ = __init__
        cls._optional_components = [*cls._optional_components, "adapter"]

    # --- drawing ---

    @torch.no_grad()
    def __call__(
        self,
        *args: Any,
        subjects: Subjects | None = None,
        unconditional: Literal["empty", "base"] = "empty",
        record_routing: bool | Sequence[int] = True,
        use_router: bool = True,
        fast_paths: FastPaths = ALL,
        **kwargs: Any,
    ) -> Any:
        """Draw pictures with the given subjects in them.

        Args:
            *args, **kwargs: All arguments of the diffusers pipeline (`prompt`, `num_inference_steps`,
                `guidance_scale`, `generator`, `callback_on_step_end`, `output_type`, …), with their meaning
                there. What is left out or None takes the model's own value (`default_call`, saved in its
                `model_index.json`), and where it has none, that of diffusers.
            subjects: The same for all prompts: a list of `Subject` or of what `encode_subjects` returned; or
                one such list per prompt, of any lengths ≥ 1. None or [] gives exactly the stock pipeline's
                picture.
            unconditional: What the unconditional half of classifier-free guidance gets: `E_{N+1}` at every
                pixel ("empty", D8), or the base model only ("base").
            record_routing: Which steps' routing maps to keep in the output: all (True), none (False), or
                those of these indices. A step of SDXL at 1024 × 1024 takes about 1 MB per picture.
            use_router: False injects every subject, and the background's tokens, at every pixel: what the paper
                compares the router with. There is no routing to record then, and no fixed region.
            fast_paths: Which cheaper ways to the same picture to take; all of them, unless you want to compare.

        Returns:
            `AnyStoryOutput(images, routing)`, or with `return_dict=False` the tuple (images, routing).

        Raises:
            ValueError: an argument that cannot be; the message names it, its value and the rule.
            TypeError: an argument that the diffusers pipeline does not know.
        """
        # 0. Arguments by name, with the model's own defaults
        arguments, values = self._arguments(args, kwargs)
        return_dict = arguments.pop("return_dict", True)

        # 1. Check inputs
        inputs.check_numbers(values)
        recorded_steps = inputs.check_record(record_routing) if use_router else range(0)
        rows = inputs.subject_rows(subjects, _count_prompts(values))
        if not rows:  # the stock pipeline, untouched
            return _output(self._parent_call(**arguments).images, None, return_dict)
        inputs.check_pictures(values)
        height, width = self._picture_size(values)
        self._check_subject_call(values, rows)

        # 2. Encode the references, each once, and lay them out as diffusers lays out its batch
        encodings = self._encode_rows(rows)
        repeats = values["num_images_per_prompt"] * (_count_prompts(values) if len(rows) == 1 else 1)
        encoded = stack_encodings(encodings).repeat_interleave(repeats)
        pictures = [[encoding.subject for encoding in row] for row in encodings for _ in range(repeats)]

        # 3. All that the attention processors read
        self._guidance_scale = values["guidance_scale"]  # as the parent will; the property below reads it
        regions, region_given = self._regions(pictures, height, width)
        if regions is not None and not use_router:
            raise ValueError("`use_router` must be True for a subject with a fixed region")
        conditioning = SubjectConditioning(
            encoded=encoded.to(self._execution_device, self.unet.dtype),
            regions=regions,
            region_given=region_given,
            use_router=use_router,
            guidance=self.do_classifier_free_guidance,
            unconditional=unconditional,
            fast=fast_paths,
        )

        # 4. What happens between the parent's steps: recording, the caller's callback, schedules of scales
        hook = StepHook(
            conditioning=conditioning,
            schedule=ScaleSchedule.of(pictures, self._execution_device),
            record=RoutingRecord([_names(row) for row in pictures], height, width),
            recorded_steps=recorded_steps,
            callback=values["callback_on_step_end"],
        )
        hook.before(0, 0.0)

        # 5. The parent draws
        images = self._draw(arguments, hook)
        return _output(images, hook.record if recorded_steps else None, return_dict)

    @torch.no_grad()
    def encode_subjects(self, subjects: Subjects) -> list[Any]:
        """Encode references ahead, to use them in several calls without computing them again.

            fox, robot = pipe.encode_subjects([Subject("fox.png"), Subject("robot.png")])
            pipe("a fox waving", subjects=[fox])
            pipe("a fox and a robot", subjects=[fox, robot.replace(scale=0.8)])

        Args:
            subjects: As for a call.

        Returns:
            The same lists with a `SubjectEncoding` in each place. All references run as one batch, and a
            `Subject` that occurs several times runs once.

        Raises:
            ValueError: as for a call.
        """
        rows = inputs.subject_rows(subjects, prompts=None)
        if not rows:
            return []
        self._check_parts(rows)
        encodings = self._encode_rows(rows)
        self.maybe_free_model_hooks()  # as a call does at its end: with offloading, back to the CPU
        return encodings if isinstance(subjects[0], Sequence) else encodings[0]

    # --- the steps of a call ---

    @property
    def _parent_call(self) -> Any:
        return super().__call__  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def _plain_unet(self) -> Any:
        """The U-Net itself, where `torch.compile` has wrapped it."""
        return self.unet._orig_mod if is_compiled_module(self.unet) else self.unet

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments to pass on, by name; and the same with the parent's defaults, to read from."""
        signature = inspect.signature(self._parent_call)
        arguments = dict(signature.bind_partial(*args, **kwargs).arguments)
        extra = arguments.pop("kwargs", {})
        if unknown := sorted(extra.keys() - _DEPRECATED):
            raise TypeError(f"{type(self).__name__} takes no argument {', '.join(map(repr, unknown))}")
        arguments |= extra
        for name, value in self.config["default_call"].items():
            if name in signature.parameters and arguments.get(name) is None:
                arguments[name] = value
        defaults = {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty}
        return arguments, defaults | arguments

    @property
    def size_multiple(self) -> int:
        """Pixels of which both sides of a picture must be a multiple."""
        return math.lcm(8, self.vae_scale_factor)  # 8 is diffusers' own rule

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """(H, W) of the pictures to come; a pipeline that is given a picture may read it off that."""
        native = self.default_sample_size * self.vae_scale_factor
        return values.get("height") or native, values.get("width") or native

    def _check_parts(self, rows: Rows) -> None:
        if self.adapter is None:
            raise ValueError("`subjects` need an adapter, and none is loaded: name one with adapter=… or --adapter")
        fresh = any(isinstance(subject, Subject) for row in rows for subject in row)
        if fresh and (self.image_encoder is None or self.feature_extractor is None):
            raise ValueError("`subjects` need `image_encoder` and `feature_extractor`, and one of them is None")

    def _check_subject_call(self, values: Mapping[str, Any], rows: Rows) -> None:
        self._check_parts(rows)
        inputs.check_size(values.get("height"), values.get("width"), self.size_multiple)
        if _CONDITIONING in (values["cross_attention_kwargs"] or {}):
            raise ValueError(f"`cross_attention_kwargs` must not hold {_CONDITIONING!r}: the pipeline sets it")
        if self.unet.config.encoder_hid_dim_type == "ip_image_proj":
            raise ValueError("`subjects` cannot be combined with an IP-Adapter: call unload_ip_adapter() first")

    def _encode_rows(self, rows: Rows) -> list[list[SubjectEncoding]]:
        """Encode every Subject that is not encoded yet, all in one batch and each once."""
        assert self.adapter is not None
        fresh = {id(subject): subject for row in rows for subject in row if isinstance(subject, Subject)}
        encoded: dict[int, SubjectEncoding] = {}
        if fresh:
            encodings = encode_references(
                list(fresh.values()),
                adapter=self.adapter,
                image_encoder=self.image_encoder,
                feature_extractor=self.feature_extractor,
                vae=self.vae,
                device=self._execution_device,
            )
            encoded = dict(zip(fresh, encodings, strict=True))
            self._references_are_encoded()
        return [[s if isinstance(s, SubjectEncoding) else encoded[id(s)] for s in row] for row in rows]

    def _regions(self, pictures: list[list[Subject]], height: int, width: int) -> tuple[Tensor | None, Tensor | None]:
        """Fixed regions (B, N, H, W) in [0, 1], and which subjects have one (B, N)."""
        if all(subject.region is None for row in pictures for subject in row):
            return None, None
        regions = torch.zeros(len(pictures), max(map(len, pictures)), height, width)
        given = torch.zeros(regions.shape[:2], dtype=torch.bool)
        for b, row in enumerate(pictures):
            for i, subject in enumerate(row):
                if subject.region is not None:
                    regions[b, i] = torch.from_numpy(subject.region_mask(height, width))
                    given[b, i] = True
        return regions.to(self._execution_device), given.to(self._execution_device)

    def _draw(self, arguments: dict[str, Any], hook: StepHook) -> Any:
        """The parent's call with the adapter's processors in the U-Net; all is put back afterwards."""
        assert self.adapter is not None
        given = arguments.get("cross_attention_kwargs")
        arguments = arguments | {
            "cross_attention_kwargs": {**(given or {}), _CONDITIONING: hook.conditioning},
            "callback_on_step_end": hook,
        }
        if isinstance(hook.callback, (PipelineCallback, MultiPipelineCallbacks)):
            # diffusers asks these themselves which tensors they want; the hook hides them from it.
            arguments["callback_on_step_end_tensor_inputs"] = hook.callback.tensor_inputs
        try:
            with self.adapter.installed_on(self._plain_unet):
                return self._parent_call(**arguments).images
        finally:
            self._cross_attention_kwargs = given  # else the pipeline would hold on to the call's features


def _count_prompts(values: Mapping[str, Any]) -> int:
    """Number of prompts, as diffusers counts them."""
    prompt, embeds = values.get("prompt"), values.get("prompt_embeds")
    if isinstance(prompt, list):
        return len(prompt)
    return 1 if embeds is None else len(embeds)


def _names(subjects: Sequence[Subject]) -> list[str]:
    return [subject.name or f"subject {i + 1}" for i, subject in enumerate(subjects)]


def _output(images: Any, routing: RoutingRecord | None, return_dict: bool) -> Any:
    return AnyStoryOutput(images=images, routing=routing) if return_dict else (images, routing)
