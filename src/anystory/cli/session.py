"""A loaded model on its device, ready to draw what jobs ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anystory.cli.drawing import Job, quiet_libraries
from anystory.cli.model_options import ModelOptions

if TYPE_CHECKING:
    from anystory.cli.source import Source

__all__ = ["Session", "Start"]


class Start(NamedTuple):
    """What a job starts from; see `Session.start`."""

    pipe: Any
    source: Source | None
    arguments: dict[str, Any]


class Session:
    """A loaded model, ready to draw.

    Args:
        options: Which model, and how it is run.

    Attributes:
        options: The same with absolute paths and with what was left open decided, as a record keeps them.
        pipe: The pipeline from text to image.
        weights: SHA-256 of each file that went into it.

    Raises:
        ValueError: no such model, device or type, or options that do not go together.
        OSError: a file is missing.
    """

    def __init__(self, options: ModelOptions) -> None:
        import torch

        options.check()
        quiet_libraries()
        from anystory.cli.loras import add_loras
        from anystory.cli.schedulers import rescheduled

        if options.threads is not None:
            torch.set_num_threads(options.threads)
        options = options.absolute()
        self.pipe = _load(options)
        if options.scheduler is not None or options.karras is not None:
            self.pipe.scheduler = rescheduled(self.pipe.scheduler, options.scheduler, options.karras)
        add_loras(self.pipe, options.loras)
        tiling = _tile(self.pipe.vae, options.tiling, offloading=options.offload != "none")
        self.options = replace(options, tiling=tiling)
        self._offloaded: Any = None
        if options.offload == "none":
            self.pipe.to(options.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.weights = _weights(self.pipe, options)

    def unknown_words(self, prompt: str) -> list[str]:
        """One line for each word of the prompt that the model does not know."""
        from anystory.pipelines.vocabulary import unknown_words

        return [
            f"this model does not know the word {word!r}"
            + (f"; it knows {', '.join(map(repr, nearest))}" if nearest else "")
            for word, nearest in unknown_words(prompt, (self.pipe.tokenizer, self.pipe.tokenizer_2))
        ]

    def default(self, argument: str) -> Any:
        """What the pipeline takes for an argument that is not given: the model's own value, or diffusers'."""
        import inspect

        from diffusers import StableDiffusionXLPipeline

        standard = inspect.signature(StableDiffusionXLPipeline.__call__).parameters[argument].default
        return self.pipe.config["default_call"].get(argument, standard)

    def start(self, job: Job) -> Start:
        """The pipeline that a job needs, on the same weights, and what it is called with besides prompt and subjects.

        Raises:
            ValueError: a picture or mask that cannot be used, or a size that the model cannot draw.
        """
        if job.image is None:
            return Start(self._ready(self.pipe), None, {"width": job.width, "height": job.height})
        from anystory.cli.source import STRENGTH, drawing_size, load_source
        from anystory.pipelines.inputs import check_size
        from anystory.pipelines.sdxl import AnyStoryImg2ImgPipeline, AnyStoryInpaintPipeline

        source = load_source(job.image, job.mask)
        multiple = self.pipe.size_multiple
        native = (self.pipe.default_sample_size * self.pipe.vae_scale_factor) ** 2
        width, height = drawing_size(source.image.size, native, multiple)
        width, height = job.width or width, job.height or height
        check_size(height, width, multiple)
        source = source.resized(width, height)
        kind = "image" if source.mask is None else "mask"
        usual = self.pipe.config["default_call"].get("strength", STRENGTH[kind])
        arguments = {"image": source.image, "strength": usual if job.strength is None else job.strength}
        if source.mask is None:
            return Start(self._ready(AnyStoryImg2ImgPipeline.from_pipe(self.pipe)), source, arguments)
        arguments |= {"mask_image": source.mask, "width": width, "height": height}
        return Start(self._ready(AnyStoryInpaintPipeline.from_pipe(self.pipe)), source, arguments)

    def _ready(self, pipe: Any) -> Any:
        """A pipeline with the offloading's hooks: they belong to one pipeline, though the weights are shared."""
        if self.options.offload == "none" or pipe is self._offloaded:
            return pipe
        if self._offloaded is not None:
            self._offloaded.remove_all_hooks()
        if self.options.offload == "model":
            pipe.enable_model_cpu_offload(device=self.options.device)
        else:
            pipe.enable_sequential_cpu_offload(device=self.options.device)
        self._offloaded = pipe
        return pipe


def _load(options: ModelOptions) -> Any:
    """The pipeline on the CPU, as it lies on disk."""
    import torch

    from anystory.pipelines.sdxl import AnyStoryPipeline

    given: dict[str, Any] = {
        "adapter": options.adapter,
        "image_encoder": options.image_encoder,
        "dtype": getattr(torch, options.dtype),
        "add_watermarker": False,
    }
    if options.is_single_file:
        return AnyStoryPipeline.from_single_file(options.model, config=options.config, **given)
    return AnyStoryPipeline.from_pretrained(options.model, variant=options.variant, **given)


def _tile(vae: Any, wanted: bool | None, offloading: bool) -> bool:
    """Let a VAE work in tiles, one picture at a time: if that is wanted, or (None) when offloading, where it can.

    Returns:
        Whether it does.

    Raises:
        ValueError: it is wanted of a VAE that cannot.
    """
    able = hasattr(vae, "use_tiling")
    if wanted and not able:
        raise ValueError(f"--tiling: this model's autoencoder ({type(vae).__name__}) cannot work in tiles")
    tiling = able and (offloading if wanted is None else wanted)
    if tiling:
        vae.enable_tiling()
        vae.enable_slicing()
    return tiling


def _weights(pipe: Any, options: ModelOptions) -> dict[str, str]:
    """SHA-256 of the files of everything that was named, and of the image encoder that was fetched."""
    from anystory.pipelines.parts import SDXL_IMAGE_ENCODER, locate
    from anystory.pipelines.record import weight_hashes

    encoder = options.image_encoder
    fetched = locate(SDXL_IMAGE_ENCODER, "image_encoder").root
    if encoder is None and pipe.image_encoder is not None and pipe.image_encoder.name_or_path == fetched:
        encoder = SDXL_IMAGE_ENCODER
    named = {"model": options.model, "adapter": options.adapter, "config": options.config, "image_encoder": encoder}
    places: dict[str, str] = {name: _here(place) for name, place in named.items() if place is not None}
    places |= {f"lora-{number}": lora.file for number, lora in enumerate(options.loras, start=1)}
    return weight_hashes(places)


def _here(model: str) -> str:
    """Where the files of a single file, an embedded model, a folder, or a hub id that has been loaded lie."""
    from anystory.pipelines.assets import embedded_models, resolve_model

    if model not in embedded_models() and Path(model).is_file():
        return model
    found = resolve_model(model) if model.count("/") < 2 or Path(model).is_dir() else model
    if Path(found).is_dir():
        return found
    from huggingface_hub import snapshot_download

    owner, name, *inside = found.split("/")
    return str(Path(snapshot_download(f"{owner}/{name}", local_files_only=True), *inside))
