"""Subject: what a user gives for one character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, TypeGuard

import numpy as np

from anystory.subjects import cutout
from anystory.subjects.pictures import Picture, Source, describe, load_mask, load_picture
from anystory.subjects.prepare import PreparedSubject, fit_to_square
from anystory.subjects.regions import check_region, region_mask
from anystory.subjects.segmenter import cut_with_model

__all__ = ["Subject"]

_OFFLINE_SEGMENTERS = ("auto", "border", "grabcut", "none")


@dataclass(frozen=True, eq=False, repr=False)
class Subject:
    """A character or thing, given by one picture of it or by several.

        Subject("fox.png")                                        # its alpha, or an automatic cut-out
        Subject(photo, mask, name="Ann", reference_scale=0.8)     # the mask is white where Ann is
        Subject("robot.jpg", region=(0.5, 0.2, 1.0, 1.0))         # always in the right half
        Subject(["front.png", "side.jpg"], [None, side_mask])     # two photos of one character

    Raises:
        ValueError: a setting outside its range. Files are only read by `prepare`.
    """

    image: Source | Sequence[Source]
    """A path, a PIL image, an array (H, W[, C]) or a tensor ([C,] H, W), see `pictures.load_picture`; or a list of
    these: several photos of the same subject (D15)."""
    mask: Source | Sequence[Source | None] | None = None
    """White where the subject is, of the picture's size; None to use the picture's alpha or a cut-out. With several
    photos a list, one for each."""
    _: KW_ONLY
    name: str | None = None
    """How outputs call it; the prompt need not contain it."""
    scale: float = 1.0
    """η ≥ 0: strength of the coarse identity (the CLIP tokens); D9."""
    reference_scale: float = 1.0
    """e^γ ≥ 0: strength of the details (the ReferenceNet's keys); 0 removes them; D9."""
    scale_start: float = 0.0
    scale_end: float = 1.0
    """The part of the sampling, 0 ≤ start ≤ end ≤ 1, in which `scale` holds; outside it is 0."""
    reference_start: float = 0.0
    reference_end: float = 1.0
    """The same for `reference_scale`."""
    region: Any = None
    """Where it goes, instead of where the router would put it: a box (x0, y0, x1, y1) in fractions of width and height,
    or a mask of any size, stretched to the picture. None leaves it to the router."""
    segmenter: str = "auto"
    """How to cut it out when there is neither mask nor alpha: "border" removes a plain border, "grabcut" guesses from
    colours, "auto" tries these two in turn, "none" takes the whole picture; anything else is the hub id or folder
    of a transformers image-segmentation model."""

    def __post_init__(self) -> None:
        self._check_photos()
        for name in ("scale", "reference_scale"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be a number ≥ 0, got {getattr(self, name)!r}")
        for name in ("scale", "reference"):
            start, end = getattr(self, f"{name}_start"), getattr(self, f"{name}_end")
            if not _is_number(start) or not _is_number(end) or not 0 <= start <= end <= 1:
                raise ValueError(
                    f"`{name}_start` and `{name}_end` must be 0 ≤ start ≤ end ≤ 1, got {start!r} and {end!r}"
                )
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise ValueError(f"`name` must be a word or None, got {self.name!r}")
        if not isinstance(self.segmenter, str) or not self.segmenter:
            raise ValueError(
                f"`segmenter` must be one of {_OFFLINE_SEGMENTERS} or a model's id, got {self.segmenter!r}"
            )
        check_region(self.region)

    @property
    def photos(self) -> tuple[Subject, ...]:
        """The subject as each of its photos alone shows it, with the same settings; itself when there is one."""
        if not _is_list(self.image):
            return (self,)
        masks = self.mask if _is_list(self.mask) else [None] * len(self.image)
        return tuple(replace(self, image=image, mask=mask) for image, mask in zip(self.image, masks, strict=True))

    def prepare(self, size: int) -> PreparedSubject:
        """Load the picture and cut the subject out, as the encoders want it.

        Args:
            size: Side of the square in pixels.

        Raises:
            ValueError: a picture or mask that cannot be used, no subject to be found in it, or several photos.
            FileNotFoundError: no such file.
        """
        if _is_list(self.image):
            raise ValueError(f"{self!r} has {len(self.image)} photos: prepare each of its `photos`")
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"`size` must be a positive number of pixels, got {size!r}")
        picture = load_picture(self.image)
        matte, method = self._matte(picture)
        image, mask, box = fit_to_square(picture.rgb, matte, size)
        return PreparedSubject(image=image, mask=mask, sha256=picture.sha256, cutout=method, box=box)

    def region_mask(self, height: int, width: int) -> np.ndarray:
        """The fixed region at a picture's size: (height, width) float32 in [0, 1], the share of each pixel inside.

        Raises:
            ValueError: there is no region, or its mask cannot be used.
        """
        if self.region is None:
            raise ValueError(f"{self!r} has no region")
        return region_mask(self.region, height, width)

    def __repr__(self) -> str:
        shown = [_described(self.image)]
        shown += [f"mask={_described(self.mask)}"] if self.mask is not None else []
        for name, field in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if name not in ("image", "mask") and value is not field.default and value != field.default:
                shown.append(f"{name}={value if isinstance(value, (str, float, tuple)) else describe(value)}")
        return f"Subject({', '.join(shown)})"

    def _check_photos(self) -> None:
        if not _is_list(self.image):
            if _is_list(self.mask):
                raise ValueError(f"`mask` must be one mask for one picture, got a list of {len(self.mask)}")
            return
        if not self.image or any(map(_is_list, self.image)):
            raise ValueError(f"`image` must be a picture or a list of at least one, got {_described(self.image)}")
        if self.mask is not None and (not _is_list(self.mask) or len(self.mask) != len(self.image)):
            raise ValueError(
                f"`mask` must be a list with a mask or None for each of {len(self.image)} photos, "
                f"got {_described(self.mask)}"
            )

    def _matte(self, picture: Picture) -> cutout.Cutout:
        """(H, W) uint8 and the way it was found: mask, else alpha, else the segmenter."""
        alpha = picture.alpha
        if alpha is not None and alpha.max() < 128:
            raise ValueError(
                f"image {describe(self.image)} is empty: all of it is transparent (alpha at most {alpha.max()} of 255)"
            )
        if self.mask is not None:
            return self._given_matte(picture)
        if alpha is not None:
            return cutout.Cutout(alpha, "alpha")
        if self.segmenter == "none":
            return cutout.Cutout(np.full(picture.rgb.shape[:2], 255, np.uint8), "none")
        if self.segmenter not in _OFFLINE_SEGMENTERS:
            return cutout.Cutout(cut_with_model(picture.rgb, self.segmenter), self.segmenter)
        found = cutout.automatic(picture.rgb) if self.segmenter == "auto" else cutout.WAYS[self.segmenter](picture.rgb)
        if found is None:
            raise ValueError(
                f"image {describe(self.image)}: no subject could be told from its background (segmenter "
                f"{self.segmenter!r}). "
                'Give a picture with transparent background, a mask, or segmenter="none" to take the whole picture'
            )
        return found if isinstance(found, cutout.Cutout) else cutout.Cutout(found, self.segmenter)

    def _given_matte(self, picture: Picture) -> cutout.Cutout:
        matte, size = load_mask(self.mask), picture.rgb.shape[:2]
        if matte.shape != size:
            raise ValueError(
                f"mask {describe(self.mask)} is {matte.shape[1]}×{matte.shape[0]}, but its picture "
                f"{describe(self.image)} is {size[1]}×{size[0]}: both must have the same size"
            )
        if picture.alpha is not None:  # transparent pixels have no colour to show, whatever the mask says
            matte = np.minimum(matte, picture.alpha)
            if matte.max() < 128:
                raise ValueError(f"mask {describe(self.mask)} covers only transparent pixels of {describe(self.image)}")
        return cutout.Cutout(matte, "mask")


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _described(value: Any) -> str:
    return f"[{', '.join(map(_described, value))}]" if _is_list(value) else "None" if value is None else describe(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
