"""A data set: three splits of examples, by what they are and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from vae_flows.checks import checked
from vae_flows.data.examples import Examples
from vae_flows.data.images import Images, ImageShape, Pixels
from vae_flows.errors import InvalidInputError, complaint
from vae_flows.standardization import Standardization

__all__ = ["DataSet"]

BATCH = 1000
"""Examples that are read at once for their mean and deviation."""
COARSE = 1e-3
"""Largest rounding error of a standardised value."""


@checked
@dataclass(frozen=True)
class DataSet:
    """Three splits of examples.

    Arguments:
        name: The name it was loaded by.
        train: Examples to fit.
        validation: Examples to stop and choose by.
        test: Examples to report.
        pixels: What the likelihood of images must be: `"binary"` for Bernoulli, `"grey"` for 256 levels; `None` for
            examples of any other kind.
        description: Origin and split; says so where the split is not the literature's.
        standardization: How a model that is trained on these examples sees them; `None` for as they are.

    Raises:
        InvalidInputError: The splits differ in the shape of examples, or are images with other pixels than `pixels`
            says.

    Example:
        >>> import torch
        >>> from vae_flows.data import TensorExamples
        >>> parts = [TensorExamples(rows) for rows in torch.randn(10, 3).split([6, 2, 2])]
        >>> DataSet("noise", *parts, pixels=None, description="standard Gaussian").event_shape
        (3,)
    """

    name: str
    train: Examples
    validation: Examples
    test: Examples
    pixels: Pixels | None
    description: str
    standardization: Standardization | None = None

    def __post_init__(self) -> None:
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        for split, examples in splits.items():
            subject = f"data set {self.name!r}, {split}"
            if examples.event_shape != self.event_shape:
                expected = f"examples of shape {self.event_shape}"
                raise InvalidInputError(complaint(subject, expected, examples.event_shape))
            if isinstance(examples, Images):
                binary = examples.packed or examples.dynamic_binarization
                if binary != (self.pixels == "binary") or self.pixels is None:
                    raise InvalidInputError(complaint(subject, f"{self.pixels or 'no'} pixels", examples))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example, such as `(C, H, W)` or `(D,)`."""
        return self.train.event_shape

    def standardized(self) -> DataSet:
        """Return the data set with the standardisation of its training examples, which training hands to a model.

        The examples themselves stay as they are.

        Raises:
            InvalidInputError: A standard deviation is not finite, or so small beside the values that single precision,
                in which a model sees them, does not tell them apart.
        """
        batches = self.train.batches(
            torch.arange(len(self.train)).split(BATCH), generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        made = Standardization.of(batches)
        ratio = made.mean.abs() / made.scale
        varies = made.scale != 1  # constants are left as they are
        if bool((coarse := (torch.finfo(torch.float32).eps * ratio > COARSE) & varies).any()):
            places = ", ".join(map(str, coarse.flatten().nonzero().flatten()[:5].tolist()))
            expected = "values whose spread single precision resolves"
            got = f"a mean {float(ratio[coarse].max()):.1e} times the spread, at places {places}"
            raise InvalidInputError(complaint(f"data set {self.name!r}", expected, got, "Subtract an offset first."))
        return replace(self, standardization=made)

    @property
    def image_shape(self) -> ImageShape:
        """`(C, H, W)` of every image.

        Raises:
            InvalidInputError: The examples have another number of dimensions.
        """
        if len(self.event_shape) != 3:
            expected = "images of shape (channels, height, width)"
            raise InvalidInputError(complaint(f"data set {self.name!r}", expected, f"examples of {self.event_shape}"))
        channels, height, width = self.event_shape
        return channels, height, width
