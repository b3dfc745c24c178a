"""AnyStory on top of a diffusers pipeline: encode subjects, hand one object to the U-Net, let the parent draw.

Everything that makes a picture (text encoding, scheduler, loop, guidance, VAE, callbacks, offloading) stays
the parent's. A pipeline is one short class, `class X(AnyStoryMixin, SomeSDXLPipeline)`; see `sdxl/`.

Shapes: B = prompts × images per prompt, prompts outermost as in diffusers; N subjects, padded to the longest
list; H × W pixels of the picture.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Container, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from diffusers import StableDiffusionXLControlNetInpaintPipeline, StableDiffusionXLPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils.torch_utils import is_compiled_module

from anystory.models.adapter import SubjectAdapter
from anystory.models.conditioning import SubjectConditioning
from anystory.models.gates import Everywhere
from anystory.models.install import CONDITIONING
from anystory.pipelines import inputs
from anystory.pipelines.arguments import bind_arguments, check_defaults, count_prompts, own_values, per_picture
from anystory.pipelines.checks.advice import advise_call, advise_strangers, advise_twins
from anystory.pipelines.checks.guards import FiniteImageProcessor, finite_pictures, one_call_at_a_time
from anystory.pipelines.checks.pictures import PictureKind, as_drawn
from anystory.pipelines.inputs import Subjects
from anystory.pipelines.loading.from_pipe import ConversionMixin
from anystory.pipelines.loading.from_pretrained import LoadingMixin
from anystory.pipelines.output import AnyStoryOutput
from anystory.pipelines.references import check_parts, each_once, shaped_like
from anystory.pipelines.routing_record import RoutingRecord
from anystory.pipelines.unet.encoding import SubjectEncoding, encode_references, stack_encodings
from anystory.pipelines.unet.image_prompts import ImagePromptMixin
from anystory.pipelines.unet.offload import OffloadMixin
from anystory.pipelines.unet.placing import Placing
from anystory.pipelines.unet.segmenting import UNetSegmentMixin
from anystory.pipelines.unet.steps import ScaleSchedule, StepHook
from anystory.subjects import Subject

__all__ = ["AnyStoryMixin"]

# Between them they take every argument of the SDXL pipelines: a model's own values serve whichever it is used with.
_ALL_ARGUMENTS = (StableDiffusionXLPipeline, StableDiffusionXLControlNetInpaintPipeline)

Rows: TypeAlias = Sequence[Sequence[Subject | SubjectEncoding]]
Encodings: TypeAlias = list[list[SubjectEncoding]]


class AnyStoryMixin(UNetSegmentMixin, OffloadMixin, ConversionMixin, ImagePromptMixin, LoadingMixin):
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

    _optional_components: ClassVar[list[str]] = [
        "tokenizer",
        "tokenizer_2",
        "text_encoder",
        "text_encoder_2",
        "image_encoder",
        "feature_extractor",
        "adapter",
    ]
    """The parents', and the adapter."""
    _picture_kinds: ClassVar[dict[str, PictureKind]] = {
        "image": "scene",
        "mask_image": "mask",
        "control_image": "map",
        "ip_adapter_image": "scene",
    }
    """What the pictures among the call's arguments are."""

    # Set by the parent.
    unet: Any
    vae: Any
    image_processor: Any
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
        self.image_processor = FiniteImageProcessor.of(self.image_processor)
        known = {name for kind in _ALL_ARGUMENTS for name in inspect.signature(kind.__call__).parameters}
        known |= inspect.signature(self._parent_call).parameters.keys()
        check_defaults("`default_call`", default_call or {}, known, type(self).__name__)
        if adapter is not None:
            check_defaults("`default_call` of the adapter", adapter.default_call, known, type(self).__name__)
        self.register_to_config(default_call=dict(default_call or {}))

    # --- drawing ---

    @one_call_at_a_time
    @torch.no_grad()
    def __call__(
        self,
        *args: Any,
        subjects: Subjects | None = None,
        unconditional: Literal["empty", "base"] = "empty",
        record_routing: bool | Sequence[int] = True,
        use_router: bool = True,
        fast: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw pictures with your subjects in them.

        Args:
            *args, **kwargs: Those of the diffusers pipeline, with their meaning there. What you leave out, or None, is
                the model's own value (`default_call` in its `model_index.json`); if it has none and there are subjects,
                the adapter's (in its `config.json`); else diffusers'. For pictures and masks see `pictures.as_drawn`.
            subjects: One list for all prompts, of `Subject` or of what `encode_subjects` returns; or one such list per
                prompt, of any lengths ≥ 1. None or [] gives exactly the stock pipeline's picture.
            unconditional: What the unconditional half of classifier-free guidance gets: `E_{N+1}` at every pixel
                ("empty", D8), or the base model only ("base").
            record_routing: The steps whose routing maps to keep: all (True), none (False), or a list of indices. A step
                of SDXL at 1024 × 1024 takes about 1 MB per picture.
            use_router: False injects every subject, and the background's tokens, at every pixel: what the paper
                compares the router with. It records no routing and allows no fixed region.
            fast: False computes the method as its equations read: the same picture up to rounding, in more time.

        Returns:
            `AnyStoryOutput(images, routing)`, or with `return_dict=False` the tuple (images, routing).

        Raises:
            ValueError, TypeError: an argument that cannot be; the message names it, its value and the rule.
            RuntimeError: another call is using this pipeline, or one that shares its parts.
            FloatingPointError: the picture is NaN or infinite: a damaged model, an absurd guidance, float16 overflowed.

        Warns:
            UserWarning: the call runs, but something in it has no effect or is far from what the model knows.
        """
        # 1. Name the arguments, fill in the model's own defaults, check them
        arguments, values = self._arguments(args, kwargs, subjects=bool(subjects))
        return_dict = arguments.pop("return_dict", True)
        recorded_steps = inputs.check_record(record_routing) if use_router else range(0)
        rows = inputs.subject_rows(subjects, SubjectEncoding, count_prompts(values))
        size = self._check_call(values, rows, fast)
        if not rows:  # the stock pipeline, untouched
            return AnyStoryOutput.returned(finite_pictures(self, self._parent_call, arguments), None, return_dict)
        # 2. Encode the references, each once
        encodings = self._encode_rows(rows, fast)
        pictures = per_picture(encodings, values)
        # 3. Gather what the attention processors read
        conditioning = self._conditioning(encodings, pictures, size, use_router, unconditional, fast)
        # 4. Prepare what happens between the steps
        hook = self._step_hook(conditioning, pictures, size, recorded_steps, values["callback_on_step_end"])
        # 5. Let the parent draw
        images = self._draw(arguments, hook)
        return AnyStoryOutput.returned(images, hook.record if recorded_steps else None, return_dict)

    @one_call_at_a_time
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
            ValueError, RuntimeError: as for a call.
        """
        rows = inputs.subject_rows(subjects, SubjectEncoding, prompts=None)
        if not rows:
            return []
        check_parts(self, rows)
        encodings = self._encode_rows(rows)
        self.maybe_free_model_hooks()  # as a call does at its end: with offloading, back to the CPU
        return shaped_like(subjects, encodings)

    # --- the steps of a call ---

    @property
    def _parent_call(self) -> Any:
        return super().__call__  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def parts_in_use(self) -> tuple[Any, ...]:
        """What a call changes: see `one_call_at_a_time`."""
        return self, self.scheduler, self._plain_unet, self.vae

    @property
    def _plain_unet(self) -> Any:
        """The U-Net itself, where `torch.compile` has wrapped it."""
        return self.unet._orig_mod if is_compiled_module(self.unet) else self.unet

    def defaults(self, subjects: bool) -> dict[str, Any]:
        """The model's own values for arguments that a call leaves out; they come before diffusers' defaults.

        Args:
            subjects: Whether the call has subjects: then the adapter's values fill in what the model does not say.
        """
        return own_values(self, subjects)

    def _arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], subjects: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments by name (see `bind_arguments`), with pictures in a form that diffusers reads."""
        if self.unet is None:
            raise ValueError("this pipeline has no `unet` (it is None): it encodes text and draws nothing")
        arguments, values = bind_arguments(
            self._parent_call, args, kwargs, self.defaults(subjects), type(self).__name__
        )
        if any(arguments.get(name) is not None for name in self._picture_kinds):
            drawn = as_drawn(arguments, self._picture_kinds, latent_channels=self.unet.config["out_channels"])
            arguments, values = arguments | drawn, values | drawn
        return arguments, values

    @property
    def size_multiple(self) -> int:
        """Both sides of a picture must be a multiple of this many pixels."""
        return math.lcm(8, self.vae_scale_factor)  # 8 is diffusers' own rule

    @property
    def native_size(self) -> int:
        """Side in pixels of the pictures that the model was trained on."""
        return self.unet.config.sample_size * self.vae_scale_factor

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """(H, W) of the pictures; a pipeline that takes a picture may read the size off it."""
        native = self.default_sample_size * self.vae_scale_factor
        return values.get("height") or native, values.get("width") or native

    def _check_call(self, values: Mapping[str, Any], rows: Rows, reuse: bool) -> tuple[int, int]:
        """Refuse what cannot be drawn, before anything runs, and warn about what may surprise.

        Returns:
            (H, W) of the pictures; (0, 0) without subjects, where it is not needed.
        """
        inputs.check_numbers(values)
        inputs.check_image_prompts(self.unet, values)
        size = (0, 0)
        if rows:
            inputs.check_pictures(values)
            size = self._picture_size(values)
            check_parts(self, rows, reuse)
            inputs.check_size(values.get("height"), values.get("width"), self.size_multiple)
            if CONDITIONING in (values["cross_attention_kwargs"] or {}):
                raise ValueError(f"`cross_attention_kwargs` must not hold {CONDITIONING!r}: the pipeline sets it")
        self._guidance_scale = values["guidance_scale"]  # as the parent will; do_classifier_free_guidance reads it
        advise_call(self, values, rows)
        return size

    def _encode_rows(self, rows: Rows, reuse: bool = True) -> Encodings:
        """Encode every Subject that is not encoded yet.

        Without `reuse` (the plain form) encodings are made again, too: they no longer hold what that form reads.
        """
        return each_once(rows, partial(self._encode, reuse=reuse), reuse)

    def _encode(self, subjects: list[Any], reuse: bool) -> list[SubjectEncoding]:
        assert self.adapter is not None
        encodings = encode_references(
            subjects,
            adapter=self.adapter,
            image_encoder=self.image_encoder,
            feature_extractor=self.feature_extractor,
            vae=self.vae,
            device=self._execution_device,
            reuse=reuse,
        )
        if self._reference_net_hook is not None:
            self._reference_net_hook.offload()  # make room for the U-Net
        advise_strangers(encodings)
        return encodings

    def _conditioning(
        self,
        rows: Encodings,
        pictures: Encodings,
        size: tuple[int, int],
        use_router: bool,
        unconditional: Literal["empty", "base"],
        fast: bool,
    ) -> SubjectConditioning:
        """All that the attention processors read.

        Args:
            rows: The subjects of each prompt, or of all.
            pictures: The subjects of each of B pictures.
            size: (H, W) of the pictures.
            use_router, unconditional, fast: As for a call.
        """
        encoded = stack_encodings(rows).repeat_interleave(len(pictures) // len(rows))
        placing = Placing.of(encoded.to(self._execution_device, self.unet.dtype), pictures, size)
        if use_router:
            placing = placing.without_ties(pictures)
            advise_twins(placing.twins)
        elif placing.regions is not None:
            raise ValueError("`use_router` must be True for a subject with a fixed region")
        return SubjectConditioning(
            encoded=placing.encoded,
            gate=placing.gate if use_router else Everywhere(),
            guidance=self.do_classifier_free_guidance,
            unconditional=unconditional,
            fast=fast,
        )

    def _step_hook(
        self,
        conditioning: SubjectConditioning,
        pictures: Encodings,
        size: tuple[int, int],
        recorded_steps: Container[int],
        callback: Any,
    ) -> StepHook:
        """Recording, the caller's callback and the schedules of scales, ready for the first step."""
        subjects = [[encoding.subject for encoding in row] for row in pictures]
        names = [[inputs.name_of(subject, i) for i, subject in enumerate(row)] for row in subjects]
        hook = StepHook(
            conditioning=conditioning,
            schedule=ScaleSchedule.of(subjects, self._execution_device),
            record=RoutingRecord(names, *size),
            recorded_steps=recorded_steps,
            callback=callback,
        )
        hook.before(0, 0.0, self.do_classifier_free_guidance)
        return hook

    def _draw(self, arguments: dict[str, Any], hook: StepHook) -> Any:
        """Call the parent with the adapter's processors in the U-Net, and restore everything afterwards."""
        assert self.adapter is not None
        given = arguments.get("cross_attention_kwargs")
        hook.attention_kwargs.update(given or {})
        arguments = arguments | {"cross_attention_kwargs": hook.attention_kwargs, "callback_on_step_end": hook}
        if isinstance(hook.callback, (PipelineCallback, MultiPipelineCallbacks)):
            # diffusers asks these themselves which tensors they want; the hook hides them from it.
            arguments["callback_on_step_end_tensor_inputs"] = hook.callback.tensor_inputs
        try:
            with self.adapter.installed_on(self._plain_unet):
                return finite_pictures(self, self._parent_call, arguments)
        finally:
            self._cross_attention_kwargs = given  # else the pipeline would hold on to the call's features
