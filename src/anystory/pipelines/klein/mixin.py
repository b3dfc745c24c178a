"""AnyStoryKleinMixin: subjects for diffusers' FLUX.2 klein pipelines.

Shapes: B = prompts × images per prompt, prompts outermost as in diffusers; S tokens of a picture of H × W pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
from diffusers.utils.torch_utils import is_compiled_module
from torch import Tensor

from anystory.models.klein.attention import installed_on
from anystory.models.klein.inputs import KleinInputs, PlacedSubject, TextGate
from anystory.models.klein.reading import Isolation
from anystory.models.klein.routing import AttentionRouting, block_names
from anystory.models.klein.state import KleinState
from anystory.pipelines import inputs
from anystory.pipelines.arguments import bind_arguments, check_defaults, count_prompts, count_steps, per_picture
from anystory.pipelines.checks.guards import FiniteImageProcessor, finite_pictures, one_call_at_a_time
from anystory.pipelines.checks.pictures import PictureKind, as_drawn
from anystory.pipelines.klein.encoding import KleinSubjectEncoding, encode_references
from anystory.pipelines.klein.loading import KleinLoadingMixin
from anystory.pipelines.klein.steps import KleinStepHook, RoutingPlan
from anystory.pipelines.klein.words import padding_of, word_tokens
from anystory.pipelines.output import AnyStoryOutput
from anystory.pipelines.references import each_once, shaped_like
from anystory.pipelines.routing_record import RoutingRecord
from anystory.pipelines.tokens import token_region
from anystory.subjects import Subject

__all__ = ["REFERENCE_SIZE", "AnyStoryKleinMixin"]

Rows: TypeAlias = Sequence[Sequence[Subject | KleinSubjectEncoding]]
Pictures: TypeAlias = Sequence[Sequence[KleinSubjectEncoding]]

REFERENCE_SIZE = 512
"""Side of a photo's cut-out in pixels: a subject seldom takes more of a picture."""
_MOST_REFERENCE_SIZE = 1024
"""What the stock pipeline shrinks its pictures to."""
_MASK = "attention_mask"
_OF_CLIP = {"scale": 1.0, "scale_start": 0.0, "scale_end": 1.0}
"""Settings of a Subject that this model has nothing for, and their defaults."""


class FiniteFlux2ImageProcessor(FiniteImageProcessor, Flux2ImageProcessor):
    """diffusers' own for FLUX.2, but NaN and infinity are an error, not black."""


class AnyStoryKleinMixin(KleinLoadingMixin):
    """Subjects for a pipeline of FLUX.2 klein. Put it before the pipeline among the bases.

    Args:
        *args, **components: The parent's components and `is_distilled`.
        reference_size: Side in pixels of each photo's cut-out, a multiple of 16 up to 1024.
        default_call: The model's own values for arguments of the call, saved in `model_index.json`.
    """

    _picture_kinds: ClassVar[dict[str, PictureKind]] = {
        "image": "scene",
        "image_reference": "scene",
        "mask_image": "mask",
    }

    # Set by the parent.
    transformer: Any
    vae: Any
    tokenizer: Any
    scheduler: Any
    image_processor: Any
    vae_scale_factor: int
    default_sample_size: int

    def __init__(
        self,
        *args: Any,
        reference_size: int = REFERENCE_SIZE,
        default_call: Mapping[str, Any] | None = None,
        **components: Any,
    ) -> None:
        super().__init__(*args, **components)
        if not 0 < reference_size <= _MOST_REFERENCE_SIZE or reference_size % self.size_multiple:
            raise ValueError(
                f"`reference_size` must be a multiple of {self.size_multiple} up to {_MOST_REFERENCE_SIZE},"
                f" got {reference_size}"
            )
        known = inspect.signature(self._parent_call).parameters
        check_defaults("`default_call`", default_call or {}, known, type(self).__name__)
        self.register_to_config(reference_size=reference_size, default_call=dict(default_call or {}))
        self.image_processor = FiniteFlux2ImageProcessor.of(self.image_processor)

    @one_call_at_a_time
    @torch.no_grad()
    def _call(
        self,
        *args: Any,
        subjects: inputs.Subjects | None = None,
        record_routing: bool | Sequence[int] = True,
        isolation: Isolation = "on",
        text_gate: TextGate = "none",
        routing: AttentionRouting | None = None,
        fast: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw pictures with your subjects in them.

        Args:
            *args, **kwargs: Those of the diffusers pipeline. What you leave out, or None, is the model's own value
                (`default_call`), else diffusers'. Pictures that you give diffusers are read by all pixels.
            subjects: One list for all prompts, of `Subject` or of what `encode_subjects` returns; or one such list per
                prompt. None or [] gives exactly the stock pipeline's picture. A subject with a `region` is read by the
                pixels in it only; regions may overlap. `reference_scale` is its strength.
            record_routing: The steps whose owner maps to keep: all (True), none (False), or a list of indices.
            isolation: "on": each reference reads only itself. "strict": besides, nothing that a region holds leaves it,
                neither a subject nor the pixels there. "off": references read everything, as in the stock model.
            text_gate: Text tokens that read no reference: "none", "padding", or "all".
            routing: Experimental: let the attention of a first step find where each subject without region is.
            fast: False takes the plain form: the stock attention under one matrix of biases.

        Returns:
            `AnyStoryOutput(images, routing)`, or with `return_dict=False` a tuple. `routing` is None where nobody is
            held to a place.

        Raises:
            ValueError, TypeError, RuntimeError, FloatingPointError: as for `AnyStoryPipeline`.
        """
        arguments, values = self._arguments(args, kwargs)
        return_dict = arguments.pop("return_dict", True)
        recorded_steps = inputs.check_record(record_routing)
        rows = inputs.subject_rows(subjects, KleinSubjectEncoding, count_prompts(values))
        inputs.check_numbers(values)
        if not rows:  # the stock pipeline, untouched
            return AnyStoryOutput.returned(finite_pictures(self, self._parent_call, arguments), None, return_dict)
        size = self._check_subject_call(values, rows, text_gate, routing)
        arguments |= {name: side for name, side in zip(("height", "width"), size, strict=True) if name in values}
        pictures = per_picture(self._encode_rows(rows), values)
        how: Any = {"isolation": isolation, "text_gate": text_gate, "fast": fast}
        if text_gate == "padding":
            how["padding"] = self._padding(values)
        given = KleinInputs(**self._placed(pictures, size), **how)
        hook = self._step_hook(given, pictures, size, routing, values)
        hook.recorded_steps = recorded_steps
        images = self._draw(arguments, hook, values)
        return AnyStoryOutput.returned(images, hook.record if hook.record.steps else None, return_dict)

    @one_call_at_a_time
    @torch.no_grad()
    def encode_subjects(self, subjects: inputs.Subjects) -> list[Any]:
        """Encode references ahead, to use them in several calls without computing them again.

        Args:
            subjects: As for a call.

        Returns:
            The same lists with a `KleinSubjectEncoding` in each place.

        Raises:
            ValueError, RuntimeError: as for a call.
        """
        rows = inputs.subject_rows(subjects, KleinSubjectEncoding, prompts=None)
        if not rows:
            return []
        self._check_vae()
        encodings = self._encode_rows(rows)
        self.maybe_free_model_hooks()  # as a call does at its end: with offloading, back to the CPU
        return shaped_like(subjects, encodings)

    # --- the steps of a call ---

    def defaults(self, subjects: bool) -> dict[str, Any]:
        """The model's own values for arguments that a call leaves out; they come before diffusers' defaults.

        Args:
            subjects: Whether the call has subjects, which changes nothing here.
        """
        return dict(self.config["default_call"])

    @property
    def size_multiple(self) -> int:
        """Pixels of which both sides of a picture must be a multiple: a token's."""
        return 2 * self.vae_scale_factor

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
        return super().__call__  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments by name, with pictures in a form that diffusers reads."""
        arguments, values = bind_arguments(self._parent_call, args, kwargs, self.defaults(True), type(self).__name__)
        if isinstance(arguments.get("image"), str):
            raise TypeError("`image` is the first argument of FLUX.2 klein, as in diffusers: write prompt=…")
        drawn = as_drawn(arguments, self._picture_kinds, latent_channels=self.transformer.config.in_channels)
        return arguments | drawn, values | drawn

    def _picture_size(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """(H, W) of the pictures."""
        native = self.default_sample_size * self.vae_scale_factor
        return values.get("height") or native, values.get("width") or native

    def _check_vae(self) -> None:
        if self.vae is None:
            raise ValueError("`subjects` need `vae`, and it is None")

    def _check_subject_call(
        self, values: Mapping[str, Any], rows: Rows, text_gate: str, routing: Any
    ) -> tuple[int, int]:
        """Refuse what cannot be drawn, before anything runs. Returns (H, W) of the pictures."""
        self._check_vae()
        inputs.check_pictures({name: value for name, value in values.items() if name == "mask_image"})
        inputs.check_size(values.get("height"), values.get("width"), self.size_multiple)
        if _MASK in (values["attention_kwargs"] or {}):
            raise ValueError(f"`attention_kwargs` must not hold {_MASK!r}: the pipeline decides what is read")
        if not isinstance(routing, (AttentionRouting, type(None))):
            raise ValueError(f"`routing` must be an AttentionRouting or None, got {routing!r}")
        for name, embeds in (("prompt", "prompt_embeds"), ("prompt", "negative_prompt_embeds")):
            if values.get(embeds) is not None and (text_gate == "padding" or (routing and embeds == "prompt_embeds")):
                what = '`text_gate` "padding"' if text_gate == "padding" else "`routing`"
                raise ValueError(f"{what} needs the text of `{name}`, and `{embeds}` hide it: leave one of them out")
        for row in rows:
            for entry in row:
                _check_settings(entry if isinstance(entry, Subject) else entry.subject)
        return self._picture_size(values)

    def _encode_rows(self, rows: Rows) -> list[list[KleinSubjectEncoding]]:
        """Encode every Subject that is not encoded yet."""
        return each_once(rows, partial(encode_references, pipeline=self, size=self.config["reference_size"]))

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of pictures of (H, W) pixels."""
        return size[0] // self.size_multiple, size[1] // self.size_multiple

    def _placed(self, pictures: Pictures, size: tuple[int, int]) -> dict[str, Any]:
        """References and samples of `KleinInputs`: pictures of one prompt share theirs."""
        grid, device = self._grid(size), self._execution_device
        photos = {id(photo): photo for row in pictures for encoding in row for photo in encoding.references}
        places = {key: place for place, key in enumerate(photos)}
        made: dict[int, PlacedSubject] = {}

        def placement(encoding: KleinSubjectEncoding) -> PlacedSubject:
            if id(encoding) not in made:
                made[id(encoding)] = PlacedSubject(
                    photos=tuple(places[id(photo)] for photo in encoding.references),
                    strength=encoding.subject.reference_scale,
                    region=token_region(encoding.subject, grid),
                )
            return made[id(encoding)]

        samples = tuple(tuple(placement(encoding) for encoding in row) for row in pictures)
        return {"references": tuple(photo.to(device) for photo in photos.values()), "samples": samples}

    def _padding(self, values: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """See `KleinInputs.padding`."""
        prompts = _prompts(values)
        texts = [prompts, [""] * len(prompts)] if self._is_guided(values) else [prompts]
        length = values["max_sequence_length"]
        masks = (padding_of(self.tokenizer, text, length) for text in texts)
        return tuple(mask.repeat_interleave(values["num_images_per_prompt"], dim=0) for mask in masks)

    def _is_guided(self, values: Mapping[str, Any]) -> bool:
        """Whether each step runs a second time for the negative prompt."""
        return values["guidance_scale"] > 1 and not self.config["is_distilled"]

    def _step_hook(
        self,
        given: KleinInputs,
        pictures: Pictures,
        size: tuple[int, int],
        routing: AttentionRouting | None,
        values: Mapping[str, Any],
    ) -> KleinStepHook:
        """Strengths, routing, recording and the caller's callback, ready for the first step."""
        subjects = [[encoding.subject for encoding in row] for row in pictures]
        names = [[inputs.name_of(subject, i) for i, subject in enumerate(row)] for row in subjects]
        rows, columns = grid = self._grid(size)
        steps = _count_steps(values)
        hook = KleinStepHook(
            state=KleinState(inputs=given, pixels=rows * columns, twice=self._is_guided(values)),
            subjects=subjects,
            grid=grid,
            record=RoutingRecord(names, *size),
            callback=values["callback_on_step_end"],
        )
        if routing is not None:
            if routing.step >= steps:
                raise ValueError(f"`routing` listens to step {routing.step}, counted from 0, of only {steps}")
            hook.routing = self._routing(routing, subjects, values)
        hook.before(0, steps)
        return hook

    def _routing(
        self, how: AttentionRouting, subjects: Sequence[Sequence[Subject]], values: Mapping[str, Any]
    ) -> RoutingPlan:
        prompts, length = per_picture(_prompts(values), values), values["max_sequence_length"]
        words = [
            [word_tokens(self.tokenizer, prompt, subject.name, length) for subject in row]
            for prompt, row in zip(prompts, subjects, strict=True)
        ]
        return RoutingPlan(how=how, layers=block_names(self._plain_transformer, how.blocks), words=words)

    def _draw(self, arguments: dict[str, Any], hook: KleinStepHook, values: Mapping[str, Any]) -> Any:
        """The parent's call with our processors in the transformer; all is put back afterwards."""
        arguments = arguments | {"callback_on_step_end": hook}
        if isinstance(hook.callback, (PipelineCallback, MultiPipelineCallbacks)):
            # diffusers asks these themselves which tensors they want; the hook hides them from it.
            arguments["callback_on_step_end_tensor_inputs"] = hook.callback.tensor_inputs
        with installed_on(self._plain_transformer, hook.state):
            if hook.routing is not None and hook.routing.how.throw_away:
                arguments = self._scouted(arguments, hook)
                hook.before(0, _count_steps(values))
            return finite_pictures(self, self._parent_call, arguments)

    def _scouted(self, arguments: dict[str, Any], hook: KleinStepHook) -> dict[str, Any]:
        """Draw until the owners are known, and throw the picture away. Returns arguments with the same noise."""
        given = arguments.get("generator")
        if given is None:
            given = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        copies = [one.clone_state() for one in given] if isinstance(given, list) else given.clone_state()
        hook.scout = True
        try:
            self._parent_call(**arguments | {"generator": copies, "output_type": "latent"})
        finally:
            hook.scout = False
        return arguments | {"generator": given}


def _check_settings(subject: Subject) -> None:
    for name, usual in _OF_CLIP.items():
        if getattr(subject, name) != usual:
            raise ValueError(
                f"{subject!r}: `{name}` weighs CLIP tokens, and FLUX.2 klein has none: use `reference_scale`,"
                " `reference_start` and `reference_end`"
            )


def _prompts(values: Mapping[str, Any]) -> list[str]:
    prompt = values.get("prompt")
    return list(prompt) if isinstance(prompt, (list, tuple)) else [prompt or ""]


def _count_steps(values: Mapping[str, Any]) -> int:
    """Sampling steps, fewer with a strength: as diffusers counts them."""
    steps = count_steps(values)
    return steps - int(max(steps - min(steps * values.get("strength", 1.0), steps), 0))
