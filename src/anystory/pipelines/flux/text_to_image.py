"""AnyStoryFluxPipeline: FLUX.1 with subjects, on the weights that the authors of AnyStory published.

Shapes: B = prompts × images per prompt, prompts outermost as in diffusers; S tokens of a picture of H × W pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils.torch_utils import is_compiled_module
from transformers import (
    CLIPTextModel,
    CLIPTokenizer,
    SiglipImageProcessor,
    SiglipVisionModel,
    T5EncoderModel,
    T5TokenizerFast,
)

from anystory.models.flux.inputs import FluxInputs, Placed, Window
from anystory.models.flux.reference_keys import ReferenceKeys
from anystory.models.flux.state import FluxRoutingState
from anystory.models.flux_adapter import FluxSubjectAdapter
from anystory.pipelines import inputs
from anystory.pipelines.arguments import (
    bind_arguments,
    check_defaults,
    count_prompts,
    count_steps,
    own_values,
    per_picture,
    with_arguments_of,
)
from anystory.pipelines.checks.guards import FiniteImageProcessor, finite_pictures, one_call_at_a_time
from anystory.pipelines.flux.encoding import FluxSubjectEncoding, encode_references
from anystory.pipelines.flux.loading import FluxLoadingMixin
from anystory.pipelines.flux.offload import FluxOffloadMixin
from anystory.pipelines.flux.segmenting import FluxSegmentMixin
from anystory.pipelines.flux.steps import FluxStepHook
from anystory.pipelines.output import AnyStoryOutput
from anystory.pipelines.references import check_parts, each_once, shaped_like
from anystory.pipelines.routing_record import RoutingRecord
from anystory.pipelines.tokens import token_region
from anystory.subjects import Subject

__all__ = ["AnyStoryFluxPipeline"]

Rows: TypeAlias = Sequence[Sequence[Subject | FluxSubjectEncoding]]
Shares: TypeAlias = tuple[float, float]
"""From when to when, as shares of the steps."""

_CONDITIONING = "subject_conditioning"
_IMAGE_PROMPTS = ("ip_adapter_image", "ip_adapter_image_embeds")
_APPEARANCE = (0.1, 0.3)
_REFERENCES_OF_ONE, _REFERENCES_OF_SEVERAL = (0.0, 1.0), (0.09, 1.0)
"""With several subjects the router needs a layout to read, which the first steps draw without references."""
_APPEARANCE_SCALE = 0.6


class AnyStoryFluxPipeline(FluxSegmentMixin, FluxOffloadMixin, FluxLoadingMixin, FluxPipeline):
    """Text to image with subjects, on FLUX.1.

        pipe = AnyStoryFluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", adapter="folder")
        out = pipe("a fox and a robot on a beach", subjects=[Subject("fox.png"), Subject("robot.png")])
        out.images[0]; out.routing.masks()

    Its components are those of `FluxPipeline`; `image_encoder` and `feature_extractor` are FLUX.1-Redux' SigLIP.

    Args:
        adapter: The trained parts of AnyStory; without it the pipeline is the stock one, without subjects.
        default_call: The model's own values for arguments of the call, saved in `model_index.json`.
    """

    _optional_components: ClassVar[list[str]] = ["image_encoder", "feature_extractor", "adapter"]

    # Set by the parent.
    transformer: Any
    vae: Any
    image_processor: Any

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        text_encoder_2: T5EncoderModel,
        tokenizer_2: T5TokenizerFast,
        transformer: FluxTransformer2DModel,
        image_encoder: SiglipVisionModel | None = None,
        feature_extractor: SiglipImageProcessor | None = None,
        adapter: FluxSubjectAdapter | None = None,
        default_call: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            scheduler=scheduler,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            transformer=transformer,
            image_encoder=image_encoder,  # pyright: ignore[reportArgumentType]
            feature_extractor=feature_extractor,  # pyright: ignore[reportArgumentType]
        )
        self.register_modules(adapter=adapter)
        known = inspect.signature(self._parent_call).parameters
        check_defaults("`default_call`", default_call or {}, known, type(self).__name__)
        if adapter is not None:
            check_defaults("`default_call` of the adapter", adapter.default_call, known, type(self).__name__)
        self.register_to_config(default_call=dict(default_call or {}))
        self.image_processor = FiniteImageProcessor.of(self.image_processor)

    @one_call_at_a_time
    @torch.no_grad()
    def _call(
        self,
        *args: Any,
        subjects: inputs.Subjects | None = None,
        record_routing: bool | Sequence[int] = True,
        use_router: bool = True,
        appearance_scale: float = _APPEARANCE_SCALE,
        appearance_window: Shares = _APPEARANCE,
        reference_window: Shares | None = None,
        reference_shift: float = 0.0,
        use_masks: bool = True,
        official: bool = False,
        reference_keys: ReferenceKeys | None = None,
        fast: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw pictures with your subjects in them.

        Args:
            *args, **kwargs: Those of the diffusers pipeline. What you leave out, or None, is the model's own value
                (`default_call`), else diffusers'.
            subjects: One list for all prompts, of `Subject` or of what `encode_subjects` returns; or one such list per
                prompt. None or [] gives exactly the stock pipeline's picture.
            record_routing: The steps whose owner maps to keep: all (True), none (False), or a list of indices.
            use_router: False lets every pixel read every subject.
            appearance_scale: Factor on the tokens that stand beside the prompt between the shares `appearance_window`
                of the steps.
            reference_window: Shares between which references are read; by default all, or from 0.09 on if several.
            reference_shift: Added to the scores of every reference token.
            use_masks: Whether only those tokens of a reference are read that show the subject.
            official: Prepare references as the authors' code does: the whole picture squashed to a square, its latents
                drawn from the VAE's distribution by the call's `generator`. Encoded subjects have theirs already.
            reference_keys: Keys and values of the references for this call and the next ones: with the same prompt,
                guidance and encoded subjects they are computed once. See `ReferenceKeys`.
            fast: False takes the plain form of the attention, to compare.

        Returns:
            `AnyStoryOutput(images, routing)`, or with `return_dict=False` a tuple. `routing` is None with one subject.

        Raises:
            ValueError, TypeError, RuntimeError, FloatingPointError: as for `AnyStoryPipeline`.
        """
        own, who = self.defaults(bool(subjects)), type(self).__name__
        arguments, values = bind_arguments(self._parent_call, args, kwargs, own, who)
        return_dict = arguments.pop("return_dict", True)
        recorded_steps = inputs.check_record(record_routing)
        rows = inputs.subject_rows(subjects, FluxSubjectEncoding, count_prompts(values))
        inputs.check_numbers(values)
        if not rows:  # the stock pipeline, untouched
            return AnyStoryOutput.returned(finite_pictures(self, self._parent_call, arguments), None, return_dict)
        size = self._check_subject_call(values, rows)
        pictures = per_picture(self._encode_rows(rows, official, _first(values.get("generator"))), values)
        how: Any = {"appearance_scale": appearance_scale, "reference_shift": reference_shift, "use_masks": use_masks}
        given = FluxInputs(**self._placed(pictures, values, size), **how, use_router=use_router, fast=fast)
        keys = ReferenceKeys() if reference_keys is None else reference_keys
        hook = self._step_hook(given, keys, pictures, size, (appearance_window, reference_window), values)
        images = self._draw(arguments, replace(hook, recorded_steps=recorded_steps))
        return AnyStoryOutput.returned(images, hook.record if hook.record.steps else None, return_dict)

    @with_arguments_of(FluxPipeline.__call__, _call)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    @one_call_at_a_time
    @torch.no_grad()
    def encode_subjects(
        self, subjects: inputs.Subjects, *, official: bool = False, generator: torch.Generator | None = None
    ) -> list[Any]:
        """Encode references ahead, to use them in several calls without computing them again.

        Args:
            subjects: As for a call.
            official: See a call.
            generator: For the latents that it draws.

        Returns:
            The same lists with a `FluxSubjectEncoding` in each place.

        Raises:
            ValueError, RuntimeError: as for a call.
        """
        rows = inputs.subject_rows(subjects, FluxSubjectEncoding, prompts=None)
        if not rows:
            return []
        check_parts(self, rows)
        encodings = self._encode_rows(rows, official, generator)
        self.maybe_free_model_hooks()  # as a call does at its end: with offloading, back to the CPU
        return shaped_like(subjects, encodings)

    # --- the steps of a call ---

    def defaults(self, subjects: bool) -> dict[str, Any]:
        """The model's own values for arguments that a call leaves out; they come before diffusers' defaults.

        Args:
            subjects: Whether the call has subjects: then the adapter's values fill in what the model does not say.
        """
        return own_values(self, subjects)

    @property
    def size_multiple(self) -> int:
        """Pixels of which both sides of a picture must be a multiple: a token's."""
        return 2 * self.vae_scale_factor

    @property
    def native_size(self) -> int:
        """Side in pixels of the pictures that the model was trained on."""
        return self.default_sample_size * self.vae_scale_factor

    @property
    def parts_in_use(self) -> tuple[Any, ...]:
        """What a call changes: see `one_call_at_a_time`."""
        return self, self.scheduler, self._plain_transformer, self.vae

    @property
    def _plain_transformer(self) -> Any:
        """The transformer itself, where `torch.compile` has wrapped it."""
        return self.transformer._orig_mod if is_compiled_module(self.transformer) else self.transformer

    @property
    def _parent_call(self) -> Any:
        return super().__call__

    def _check_subject_call(self, values: Mapping[str, Any], rows: Rows) -> tuple[int, int]:
        """Refuse what cannot be drawn, before anything runs. Returns (H, W) of the pictures."""
        check_parts(self, rows)
        inputs.check_size(values.get("height"), values.get("width"), self.size_multiple)
        if any(values.get(name) is not None for name in _IMAGE_PROMPTS):
            raise ValueError("`ip_adapter_image` and `subjects` cannot go together on FLUX.1: leave one of them out")
        if _CONDITIONING in (values["joint_attention_kwargs"] or {}):
            raise ValueError(f"`joint_attention_kwargs` must not hold {_CONDITIONING!r}: the pipeline sets it")
        return values.get("height") or self.native_size, values.get("width") or self.native_size

    def _encode_rows(
        self, rows: Rows, official: bool = False, generator: torch.Generator | None = None
    ) -> list[list[FluxSubjectEncoding]]:
        """Encode every Subject that is not encoded yet."""
        encode = partial(
            encode_references,
            adapter=self.adapter,
            image_encoder=self.image_encoder,
            feature_extractor=self.feature_extractor,
            vae=self.vae,
            device=self._execution_device,
            official=official,
            generator=generator,
        )
        return each_once(rows, encode)

    def _tokens(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of pictures of (H, W) pixels."""
        return size[0] // self.size_multiple, size[1] // self.size_multiple

    def _placed(
        self, pictures: Sequence[Sequence[FluxSubjectEncoding]], values: Mapping[str, Any], size: tuple[int, int]
    ) -> dict[str, Any]:
        """References, prompts and samples of `FluxInputs`: pictures of one prompt share their references."""
        device, tokens, per_prompt = self._execution_device, self._tokens(size), values["num_images_per_prompt"]
        rows: dict[tuple[int, int], FluxSubjectEncoding] = {}
        samples = []
        for number, row in enumerate(pictures):
            first = number - number % per_prompt
            keys = [(id(encoding.reference), first) for encoding in row]
            rows |= dict(zip(keys, row, strict=True))
            places = [list(rows).index(key) for key in keys]
            samples.append(
                tuple(_placed(one.subject, place, tokens, device) for one, place in zip(row, places, strict=True))
            )
        references = tuple(encoding.reference.to(device) for encoding in rows.values())
        return {"references": references, "prompts": tuple(first for _, first in rows), "samples": tuple(samples)}

    def _step_hook(
        self,
        given: FluxInputs,
        keys: ReferenceKeys,
        pictures: Sequence[Sequence[FluxSubjectEncoding]],
        size: tuple[int, int],
        windows: tuple[Shares, Shares | None],
        values: Mapping[str, Any],
    ) -> FluxStepHook:
        """Windows, recording and the caller's callback, ready for the first step."""
        usual = _REFERENCES_OF_ONE if given.most_subjects == 1 else _REFERENCES_OF_SEVERAL
        subjects = [[encoding.subject for encoding in row] for row in pictures]
        names = [[inputs.name_of(subject, i) for i, subject in enumerate(row)] for row in subjects]
        negative = values.get("negative_prompt") is not None or values.get("negative_prompt_embeds") is not None
        state = FluxRoutingState(
            inputs=given,
            transformer=self._plain_transformer,
            reference_terms=self.adapter.reference_terms,
            routing_terms=self.adapter.routing_terms,
            keys=keys,
            twice=values["true_cfg_scale"] > 1 and negative,
        )
        hook = FluxStepHook(
            state=state,
            inputs=given,
            subjects=subjects,
            appearance=_window("appearance_window", windows[0]),
            references=_window("reference_window", windows[1] or usual),
            tokens=self._tokens(size),
            record=RoutingRecord(names, *size),
            callback=values["callback_on_step_end"],
        )
        hook.before(0, count_steps(values))
        return hook

    def _draw(self, arguments: dict[str, Any], hook: FluxStepHook) -> Any:
        """The parent's call with the adapter's processors in the transformer; all is put back afterwards."""
        given = arguments.get("joint_attention_kwargs")
        arguments = arguments | {
            "joint_attention_kwargs": {**(given or {}), _CONDITIONING: hook.state},
            "callback_on_step_end": hook,
        }
        if isinstance(hook.callback, (PipelineCallback, MultiPipelineCallbacks)):
            # diffusers asks these themselves which tensors they want; the hook hides them from it.
            arguments["callback_on_step_end_tensor_inputs"] = hook.callback.tensor_inputs
        try:
            with self.adapter.installed_on(self._plain_transformer, hook.state):
                return finite_pictures(self, self._parent_call, arguments)
        finally:
            self._joint_attention_kwargs = given  # else the pipeline would hold on to the call's keys and values


def _placed(subject: Subject, row: int, tokens: tuple[int, int], device: torch.device) -> Placed:
    region = token_region(subject, tokens)
    return Placed(
        reference=row,
        appearance_scale=subject.scale,
        reference_scale=subject.reference_scale,
        region=None if region is None else region.to(device),
    )


def _first(generator: Any) -> torch.Generator | None:
    return generator[0] if isinstance(generator, list) else generator


def _window(name: str, value: Shares) -> Window:
    try:
        return Window(start=value[0], end=value[1])
    except (ValueError, TypeError, IndexError):
        raise ValueError(f"`{name}` must be (start, end) with 0 <= start <= end <= 1, got {value!r}") from None
