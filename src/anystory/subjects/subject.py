"""Subject: what you give for one character."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, TypeGuard

import numpy as np

from anystory.subjects.arrays import plain_number
from anystory.subjects.cutout import LOW_CONFIDENCE, Cutout
from anystory.subjects.pictures import Picture, Source, describe, load_picture
from anystory.subjects.prepare import CutPicture, PreparedSubject, fit_to_square, matte_box
from anystory.subjects.regions import check_region, region_mask
from anystory.subjects.segmenter import check_segmenter, cut_out

__all__ = ["Subject"]

_NUMBERS = ("scale", "reference_scale", "scale_start", "scale_end", "reference_start", "reference_end")


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
    """What outputs call it; the prompt need not contain it."""
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
    """Where it goes; overrides the router: a box (x0, y0, x1, y1) in fractions of width and height,
    or a mask of any size, stretched to the picture. None leaves it to the router."""
    segmenter: str = "auto"
    """How to cut it out when there is neither mask nor alpha: "border" removes a plain border, "grabcut" guesses from
    colours, "auto" tries these two in turn, "none" takes the whole picture; "u2netp" and the other `ONNX_MODELS`, or
    the path of such a file, is a model that OpenCV runs; anything else is the hub id or folder of a transformers
    image-segmentation model."""

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            object.__setattr__(self, name, plain_number(getattr(self, name)))
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
        check_segmenter(self.segmenter)
        check_region(self.region)

    @property
    def photos(self) -> tuple[Subject, ...]:
        """One subject for each photo, with the same settings; itself when there is only one."""
        if not _is_list(self.image):
            return (self,)
        masks = self.mask if _is_list(self.mask) else [None] * len(self.image)
        return tuple(replace(self, image=image, mask=mask) for image, mask in zip(self.image, masks, strict=True))

    def prepare(self, size: int) -> PreparedSubject:
        """Load the picture and cut the subject out for the encoders. Warns when the cut-out is uncertain.

        Args:
            size: Side of the square in pixels.

        Raises:
            ValueError: a picture or mask that cannot be used, no subject found in it, or several photos.
            FileNotFoundError: no such file.
        """
        if _is_list(self.image):
            raise ValueError(f"{self!r} has {len(self.image)} photos: prepare each of its `photos`")
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"`size` must be a positive number of pixels, got {size!r}")
        cut = self._cut()
        if cut.confidence < LOW_CONFIDENCE:
            warnings.warn(
                f"image {cut.label}: the cut-out is uncertain (by {cut.method}, confidence {cut.confidence:.2f}). "
                "Look at it with `anystory cutout`; give a mask, a picture with transparent background, or a segmenter "
                'such as "u2netp"',
                stacklevel=1,  # one place, so that Python shows the warning once
            )
        image, mask, _ = fit_to_square(cut.rgb, cut.matte, size)
        return PreparedSubject(
            image=image, mask=mask, sha256=cut.sha256, cutout=cut.method, confidence=cut.confidence, box=cut.box
        )

    def read(self) -> Subject:
        """Read the photos and cut the subject out once; `prepare` of the result only resizes.

        Raises:
            ValueError: a picture or mask that cannot be used, or no subject found in it.
            FileNotFoundError: no such file.
        """
        cut = [photo._cut() for photo in self.photos]
        return replace(self, image=cut if _is_list(self.image) else cut[0], mask=None)

    def _cut(self) -> CutPicture:
        if isinstance(self.image, CutPicture):
            return self.image
        picture = load_picture(self.image)
        found = cut_out(picture, describe(self.image), self.segmenter, self.mask)
        left, top, right, bottom = box = matte_box(found.matte)
        return CutPicture(
            rgb=picture.rgb[top:bottom, left:right].copy(),
            matte=found.matte[top:bottom, left:right].copy(),
            box=box,
            sha256=picture.sha256,
            method=found.method,
            confidence=found.confidence,
            label=describe(self.image),
        )

    def whole(self) -> tuple[Picture, Cutout]:
        """The picture as it is, and where the subject is in it.

        Raises:
            ValueError: as for `prepare`; or `read` has left nothing but the subject of the picture.
        """
        if isinstance(self.image, CutPicture):
            raise ValueError(
                f"{self!r} was cut out by `read`, and the whole picture is wanted: give the picture itself"
            )
        picture = load_picture(self.image)
        return picture, cut_out(picture, describe(self.image), self.segmenter, self.mask)

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
            plain = isinstance(value, (str, int, float, tuple, list))  # arrays and tensors compare by element
            if name not in ("image", "mask") and value is not field.default and (not plain or value != field.default):
                shown.append(f"{name}={value if plain else describe(value)}")
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


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _described(value: Any) -> str:
    if isinstance(value, CutPicture):
        return value.label
    return f"[{', '.join(map(_described, value))}]" if _is_list(value) else "None" if value is None else describe(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
