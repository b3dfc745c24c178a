"""The node that keeps pictures with their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .host import output_folder
from .sentences import in_a_sentence
from .wires import CATEGORY, PICTURES, DrawnPictures

__all__ = ["AnyStorySave"]


class AnyStorySave:
    """Writes pictures as `anystory generate` does; see `anystory.engine.saving.keep`."""

    DESCRIPTION = "Keeps each picture with its record (`anystory replay` draws it again), routing sheet and references."
    CATEGORY = CATEGORY
    FUNCTION = "save"
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("records",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("The records, as JSON: one for each picture",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """ComfyUI's description of the inputs."""
        return {
            "required": {
                "pictures": (PICTURES,),
                "folder": ("STRING", {"default": "anystory", "tooltip": "In ComfyUI's output folder; numbers go on"}),
            },
            "optional": {
                "sheet": ("BOOLEAN", {"default": True, "tooltip": "Whether to keep the page of routing maps, too"}),
                "metadata": ("BOOLEAN", {"default": True, "tooltip": "Whether the picture holds its record, too"}),
            },
        }

    @in_a_sentence
    def save(self, pictures: DrawnPictures, folder: str, sheet: bool = True, metadata: bool = True) -> dict[str, Any]:
        """The records, and the pictures for ComfyUI to show."""
        from anystory.engine.record.reading import record_text
        from anystory.engine.saving import keep

        out = _inside(output_folder(), folder)
        kept = [
            keep(one, pictures.job, pictures.model, out, sheet=sheet, metadata=metadata) for one in pictures.pictures
        ]
        subfolder = out.relative_to(output_folder().resolve()).as_posix()
        shown = [{"filename": one.files.picture.name, "subfolder": subfolder, "type": "output"} for one in kept]
        return {"ui": {"images": shown}, "result": ([record_text(one.record) for one in kept],)}


def _inside(base: Path, folder: str) -> Path:
    """A folder below `base`, which nothing leaves: workflows come from anybody."""
    base = base.resolve()
    found = (base / folder.strip()).resolve()
    if not found.is_relative_to(base):
        raise ValueError(f"folder must lie in ComfyUI's output folder {base}, got {folder!r}")
    return found
