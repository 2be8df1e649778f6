"""Pictures that models make: reconstructions, samples, latent traversals and interpolations, and tables' marginals.

Means of p(x | z) are smoother than what the model says data look like: where it matters, draws stand beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Size, Tensor

from vae_flows.checks import checked, described
from vae_flows.errors import InvalidInputError, complaint, require_positive
from vae_flows.evaluation.batches import chosen_batch, evaluating
from vae_flows.extras import needing
from vae_flows.modules import placement
from vae_flows.reporting.plots.images import image_grid
from vae_flows.reporting.plots.looks import looks_of
from vae_flows.reporting.plots.sheets import Plot, Width, add_legend, dress, new_plot, sheet_of
from vae_flows.tensors.shapes import is_dense
from vae_flows.vae import VAE

with needing("plots"):
    from matplotlib.lines import Line2D

__all__ = ["plot_interpolations", "plot_marginals", "plot_reconstructions", "plot_samples", "plot_traversals"]

Models = VAE | Mapping[str, VAE]
DRAWS, PRIOR_DRAWS = 64, 2000
"""Draws whose mean is the code of an image, and draws of the prior that say how far a latent reaches."""
PERCENT = 0.01
"""What of the prior lies beyond either end of a traversal."""
MOST_VALUES, MOST_BINS = 12, 30
"""Columns of a table that are drawn, and bins of a histogram."""


@checked
@torch.no_grad()
def plot_reconstructions(
    models: VAE | Mapping[str, VAE], x: Tensor, *, seed: int = 0, title: str = "", width: Width = "screen"
) -> Plot:
    """Draw images above their reconstructions: with one z ~ q(z | x), the mean of p(x | z) and a draw from it.

    Arguments:
        models: A model, or several by name; each is put in evaluation mode meanwhile.
        x: Images `(B, C, H, W)` or `(B, H, W)`, grey or RGB, of any size.
        seed: The same seed gives the same picture.
        title: Line above the images.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: They are no images, or do not fit a model, or the width is none.

    Example:
        >>> figure = plot_reconstructions(_example(), torch.rand(3, 1, 4, 4))
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['original', 'mean', 'drawn']
    """
    rows: dict[str, Any] = {}
    for name, vae in _by_name(models).items():
        with evaluating(vae, seed, "plot_reconstructions"):
            images = _checked_images("plot_reconstructions x", vae, x)
            p = vae.decode(vae.encode(x).rsample())
            rows.setdefault("original", images)
            rows[_label(name, "mean")] = _as_images("plot_reconstructions", p.mean)
            rows[_label(name, "drawn")] = _as_images("plot_reconstructions", p.sample())
    return image_grid(rows, title=title, width=width)


@checked
@torch.no_grad()
def plot_samples(
    models: VAE | Mapping[str, VAE], count: int = 12, *, seed: int = 0, title: str = "", width: Width = "screen"
) -> Plot:
    """Draw samples of the model: with z ~ p(z), the mean of p(x | z) and below it a draw from it.

    Arguments:
        models: A model, or several by name; each is put in evaluation mode meanwhile.
        count: Number of samples.
        seed: The same seed gives the same picture.
        title: Line above the images.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: The models are not of images, the number is not positive, or the width is none.

    Example:
        >>> figure = plot_samples(_example(), 5)
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['mean', 'drawn']
    """
    require_positive("plot_samples", count=count)
    rows: dict[str, Any] = {}
    for name, vae in _by_name(models).items():
        with evaluating(vae, seed, "plot_samples"):
            p = vae.decode(_draw_prior(vae, count))
            rows[_label(name, "mean")] = _as_images("plot_samples", p.mean)
            rows[_label(name, "drawn")] = _as_images("plot_samples", p.sample())
    return image_grid(rows, title=title, width=width)


@checked
@torch.no_grad()
def plot_traversals(
    vae: VAE,
    x: Tensor,
    *,
    latents: Sequence[int] | None = None,
    num_latents: int = 8,
    num_steps: int = 11,
    seed: int = 0,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    """Draw what one latent after the other does to an image: the means of p(x | z) along it, the others held.

    A row goes from the 1st to the 99th percentile of the latent under the prior. The other latents are those of the
    image, the mean of draws of q(z | x).

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        x: One image, `(1, C, H, W)` or `(1, H, W)`.
        latents: Which to change; by default those that change the image most, in that order.
        num_latents: How many of them at most.
        num_steps: Images of a row.
        seed: The same seed gives the same picture.
        title: Line above the images.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: It is not one image, a latent or a number is out of range, or the width is none.

    Example:
        >>> figure = plot_traversals(_example(), torch.rand(1, 1, 4, 4), latents=[1, 0])
        >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
        ['z₂', 'z₁']
    """
    require_positive("plot_traversals", num_latents=num_latents, num_steps=num_steps)
    with evaluating(vae, seed, "plot_traversals"):
        if len(_checked_images("plot_traversals x", vae, x)) != 1:
            raise InvalidInputError(complaint("plot_traversals x", "one image", len(x), "Such as x[:1]."))
        code = _code(vae, x)[0]
        chosen = range(len(code)) if latents is None else latents
        if not chosen or not all(0 <= latent < len(code) for latent in chosen):
            expected = f"latents from 0 to {len(code) - 1}"
            raise InvalidInputError(complaint("plot_traversals latents", expected, list(chosen)))
        reach = _draw_prior(vae, PRIOR_DRAWS).to(code.dtype).sort(0).values
        low, high = (reach[round(share * (PRIOR_DRAWS - 1))] for share in (PERCENT, 1 - PERCENT))
        rows, changes = {}, {}
        for latent in chosen:
            z = code.repeat(num_steps, 1)
            z[:, latent] = torch.linspace(float(low[latent]), float(high[latent]), num_steps)
            means = vae.decode(z).mean
            rows[latent] = _as_images("plot_traversals", means)
            changes[latent] = float((means[1:] - means[:-1]).abs().sum())
    if latents is None:
        chosen = sorted(chosen, key=lambda latent: -changes[latent])[:num_latents]
    return image_grid({name_of_latent(latent): rows[latent] for latent in chosen}, title=title, width=width)


@checked
@torch.no_grad()
def plot_interpolations(
    vae: VAE,
    start: Tensor,
    end: Tensor,
    *,
    num_steps: int = 9,
    path: Literal["linear", "spherical"] = "linear",
    seed: int = 0,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    """Draw the means of p(x | z) on the way from one image's latents to another's, between both images themselves.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        start: Images `(B, C, H, W)` or `(B, H, W)`, one a row.
        end: As many.
        num_steps: Latents of the way, with both ends.
        path: `"linear"`, or `"spherical"`, along the great circle, whose latents are as far from the origin as typical
            ones of a Gaussian in many dimensions (White 2016, "Sampling generative networks", section 3.1).
        seed: The same seed gives the same picture.
        title: Line above the images.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: They are no images of one number, fewer than two steps, or the width is none.

    Example:
        >>> figure = plot_interpolations(_example(), torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4), num_steps=3)
        >>> figure.axes[0].images[0].get_array().shape  # five images of four pixels, one pixel apart
        (9, 24, 3)
    """
    require_positive("plot_interpolations", num_steps=num_steps)
    if num_steps < 2 or start.shape != end.shape:
        got = f"{num_steps}, {tuple(start.shape)} and {tuple(end.shape)}"
        raise InvalidInputError(complaint("plot_interpolations", "two steps or more, and as many ends as starts", got))
    with evaluating(vae, seed, "plot_interpolations"):
        first, last = (_checked_images("plot_interpolations", vae, images) for images in (start, end))
        z = _between(_code(vae, start), _code(vae, end), num_steps, path)  # (steps, B, D)
        between = [_as_images("plot_interpolations", vae.decode(step).mean) for step in z]
    rows = {
        f"pair {pair + 1}": [first[pair], *(images[pair] for images in between), last[pair]]
        for pair in range(len(first))
    }
    return image_grid(rows, title=title, width=width)


@checked
@torch.no_grad()
def plot_marginals(
    vae: VAE,
    data: Any,
    *,
    names: Sequence[str] | None = None,
    count: int = 2000,
    seed: int = 0,
    title: str = "",
    width: Width = "screen",
) -> Plot:
    """Draw the distribution of each value of a table, in the data and in as many draws of the model.

    What samples are to pictures. Of more than twelve columns the first twelve are drawn.

    Arguments:
        vae: The model; it is put in evaluation mode meanwhile.
        data: Examples, such as `data.test`.
        names: Of the columns, by default their numbers.
        count: Examples, and draws, at most.
        seed: The same seed gives the same picture.
        title: Line above the panels.
        width: `"screen"`, `"column"` or `"page"` of a paper, or inches.

    Raises:
        InvalidInputError: The examples are no vectors, there are not as many names, or the width is none.

    Example:
        >>> figure = plot_marginals(_example((3,)), torch.rand(20, 3))
        >>> len(figure.axes)
        3
    """
    require_positive("plot_marginals", count=count)
    sheet = sheet_of(width)
    with evaluating(vae, seed, "plot_marginals") as generator:
        x = chosen_batch(vae, data, count, generator)
        if x.dim() != 2 or not len(x):
            expected, remedy = "vectors", "Of pictures, see plot_samples."
            raise InvalidInputError(complaint("plot_marginals data", expected, f"shape {tuple(x.shape)}", remedy))
        vae.likelihood.check(x)
        drawn = vae.decode(_draw_prior(vae, len(x))).sample()
    columns = min(x.shape[-1], MOST_VALUES)
    labels = [f"x{_subscript(place + 1)}" for place in range(x.shape[-1])] if names is None else list(names)
    if len(labels) != x.shape[-1]:
        raise InvalidInputError(complaint("plot_marginals names", f"{x.shape[-1]} names", len(labels)))
    across = min(columns, 2 if sheet.is_narrow else 4)
    down, bins = -(-columns // across), min(MOST_BINS, max(4, math.isqrt(len(x))))
    figure, panels = new_plot(sheet, 0.4 + 1.35 * down, down, across, title=title)
    data_look, model_look = looks_of(["none", "ffjord"]).values()
    styles = [
        ("data", x, {"color": data_look.colour, "linestyle": "-"}),
        ("drawn from the model", drawn, {"color": model_look.colour, "linestyle": (0, (3, 1))}),
    ]
    for place, axes in enumerate(panels.flat):
        if place >= columns:
            axes.remove()
            continue
        both = torch.cat([values[:, place].double() for _, values, _ in styles])
        low, high = (float(both.quantile(share)) for share in (0.002, 0.998))  # outliers would hide all else
        high = high if high > low else low + 1.0
        for _, values, style in styles:
            column = values[:, place].double().clamp(low, high).cpu().numpy()
            axes.hist(
                column, bins=bins, range=(low, high), density=True, histtype="step", linewidth=sheet.line, **style
            )
        dress(axes, sheet, x=labels[place])
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
    handles = [Line2D([], [], linewidth=sheet.line, **style) for *_, style in styles]
    add_legend(figure, sheet, handles, [label for label, *_ in styles])
    return figure


def name_of_latent(index: int) -> str:
    """Return z with a number from one, as it is written.

    Example:
        >>> name_of_latent(0), name_of_latent(11)
        ('z₁', 'z₁₂')
    """
    return f"z{_subscript(index + 1)}"


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _by_name(models: Models) -> Mapping[str, VAE]:
    if not isinstance(models, Mapping):
        return {"": models}
    if not models:
        raise InvalidInputError(complaint("models", "one or more by name", "none"))
    return models


def _label(name: str, what: str) -> str:
    return f"{name}, {what}" if name else what


def _draw_prior(vae: VAE, count: int) -> Tensor:
    device, dtype = placement(vae)
    like = torch.empty(vae.latent_dim, device=device, dtype=dtype)
    return vae.prior(like).sample(Size([count]))


def _code(vae: VAE, x: Tensor) -> Tensor:
    """Return the means of q(z | x), which has no closed form where there is a flow: of draws, `(B, D)`."""
    return vae.encode(x).sample(Size([DRAWS])).mean(0)


def _between(start: Tensor, end: Tensor, num_steps: int, path: Literal["linear", "spherical"]) -> Tensor:
    r"""Return `(num_steps, B, D)` from start to end: :math:`(1 - t) a + t b`, or with sines of the angle between."""
    share = torch.linspace(0, 1, num_steps, dtype=start.dtype, device=start.device)[:, None, None]
    if path == "linear":
        return (1 - share) * start + share * end
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=-1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.arccos()[:, None]
    return (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / angle.sin()


def _checked_images(subject: str, vae: VAE, x: Tensor) -> NDArray[Any]:
    """Return images as they are drawn, having checked that they are ones that the model takes."""
    if not is_dense(x) or x.is_meta or x.dim() != vae.likelihood.event_dim + 1 or not len(x):
        raise InvalidInputError(complaint(subject, "one batch of images", described(x)))
    images = _as_images(subject, x)
    vae.encode(x)  # checks their values
    return images


def _as_images(subject: str, x: Tensor) -> NDArray[Any]:
    """Return `(N, C, H, W)` for images with or without a dimension for channels."""
    x = x.unsqueeze(1) if x.dim() == 3 else x
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        expected = "images (C, H, W) with one or three channels, or (H, W)"
        remedy = "Of tables, see plot_marginals." if x.dim() == 2 else ""
        raise InvalidInputError(complaint(subject, expected, f"shape {tuple(x.shape[1:])}", remedy))
    return x.detach().double().cpu().numpy()


def _example(shape: tuple[int, ...] = (1, 4, 4)) -> VAE:
    """Return a small model for the examples above."""
    from vae_flows.likelihoods import BernoulliLikelihood
    from vae_flows.networks import MLPDecoder, MLPEncoder
    from vae_flows.posterior import AmortizedPosterior

    likelihood = BernoulliLikelihood(event_dim=len(shape))
    posterior = AmortizedPosterior(2, 6, flow="planar")
    return VAE(MLPEncoder(shape, (8,), context_dim=6), MLPDecoder(2, shape, (8,)), posterior, likelihood)
