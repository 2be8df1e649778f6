r"""Toy densities of the plane, in the shapes and scales that the literature on flows draws them in.

Most are a curve with Gaussian noise around it, :math:`x = c(u) + \sigma\epsilon` with u uniform, so that their true
density is a one-dimensional integral over u, taken here by the midpoint rule with an error of 1e-5 nats on average;
`checkerboard` and `pinwheel` have formulas of their own. So what a model misses is known. The shapes are those of the
toy data of Grathwohl et al. (2019), but `2spirals` has no uniform jitter beside its Gaussian noise, and the angles of
`rings` are drawn instead of laid out evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_flows.checks import checked
from vae_flows.errors import InvalidInputError, complaint, require_positive, unknown_name
from vae_flows.tensors.shapes import is_dense

__all__ = ["ToyDensity", "available_toys", "toy_density"]

_NODES = 1024  # nodes of the integral over a curve: their distance is a fraction of the noise of each curve here
_PINWHEEL_NODES = 256  # along a blade: close enough that no two roots lie between neighbours
_NEWTON_STEPS = 3  # from the line between neighbours to double precision
_CHUNK = 1024  # points whose density is computed at once: 8 MB, which stay in the processor's cache


@checked
@dataclass(frozen=True)
class ToyDensity:
    """A density of points `(N, 2)`.

    Arguments:
        name: What it is called.
        draw: Maps a count and a generator to that many points.
        formula: Maps points to their log-densities in nats.
    """

    name: str
    draw: Callable[[int, torch.Generator | None], Tensor]
    formula: Callable[[Tensor], Tensor]

    def log_density(self, x: Tensor) -> Tensor:
        """Return log-densities `(N,)` in nats of points `(N, 2)`, in their dtype.

        Raises:
            InvalidInputError: The points are no floating-point tensor of that shape.
        """
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[-1] != 2 or not is_dense(x):
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            expected = "points of floating point and shape (N, 2)"
            raise InvalidInputError(complaint(f"toy density {self.name!r}", expected, got))
        return self.formula(x)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw points `(count, 2)` of the default dtype, from a generator on the CPU or the global one.

        Raises:
            InvalidInputError: The count is not a positive integer, or the generator is elsewhere.
        """
        require_positive(f"toy density {self.name!r}", count=count)
        if generator is not None and not (isinstance(generator, torch.Generator) and generator.device.type == "cpu"):
            got = f"one on {generator.device}" if isinstance(generator, torch.Generator) else repr(generator)
            raise InvalidInputError(complaint(f"toy density {self.name!r}", "a generator on the CPU", got))
        return self.draw(count, generator)


def available_toys() -> tuple[str, ...]:
    """Return the names that `toy_density` knows.

    Example:
        >>> available_toys()
        ('2spirals', '8gaussians', 'checkerboard', 'moons', 'pinwheel', 'rings', 'swissroll')
    """
    return tuple(sorted(_TOYS))


def toy_density(name: str) -> ToyDensity:
    """Return the toy density called `name`.

    Raises:
        UnknownNameError: There is none; the message lists the nearest names.

    Example:
        >>> toy = toy_density("checkerboard")
        >>> toy.sample(5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2])
        >>> toy.log_density(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))  # −log 32 on the dark squares
        tensor([-3.4657,    -inf])
    """
    if not isinstance(name, str) or name not in _TOYS:
        raise unknown_name("toy density", str(name), _TOYS)
    return _TOYS[name]


def _noisy_curve(name: str, curve: Callable[[Tensor], Tensor], noise: float) -> ToyDensity:
    """Return the law of c(u) + σε; `curve` maps u in [0, 1) to points, and may jump at multiples of 1/8."""

    def draw(count: int, generator: torch.Generator | None) -> Tensor:
        return curve(torch.rand(count, generator=generator)) + noise * torch.randn(count, 2, generator=generator)

    def log_density(x: Tensor) -> Tensor:
        # In double precision: squares of distances to far nodes, in units of the noise, are large numbers.
        nodes = curve((torch.arange(_NODES, dtype=torch.float64, device=x.device) + 0.5) / _NODES) / noise
        constant = math.log(2 * math.pi * noise**2 * _NODES)

        def of_chunk(points: Tensor) -> Tensor:
            squares = (points**2).sum(-1, keepdim=True) - 2 * points @ nodes.mT + (nodes**2).sum(-1)
            return (-0.5 * squares).logsumexp(-1) - constant

        return torch.cat([of_chunk(points / noise) for points in x.double().split(_CHUNK)]).to(x.dtype)

    return ToyDensity(name, draw, log_density)


def _on_circle(angle: Tensor) -> Tensor:
    return torch.stack([torch.cos(angle), torch.sin(angle)], -1)


def _eight_centres(u: Tensor) -> Tensor:
    return 4 / math.sqrt(2) * _on_circle((8 * u).floor() * (math.pi / 4))


def _two_moons(u: Tensor) -> Tensor:
    lower = (u >= 0.5).to(u.dtype).unsqueeze(-1)
    arc = _on_circle(2 * math.pi * (u % 0.5))
    moved = torch.tensor([1.0, 0.5], dtype=u.dtype, device=u.device) - arc
    return 2 * torch.lerp(arc, moved, lower) + torch.tensor([-1.0, -0.2], dtype=u.dtype, device=u.device)


def _two_spirals(u: Tensor) -> Tensor:
    angle = 3 * math.pi * (2 * (u % 0.5)).sqrt()
    sign = torch.where(u < 0.5, -1.0, 1.0).to(u.dtype)
    return (sign * angle / 3).unsqueeze(-1) * _on_circle(-angle)


def _four_rings(u: Tensor) -> Tensor:
    radius = 0.75 * ((4 * u).floor() + 1)
    return radius.unsqueeze(-1) * _on_circle(8 * math.pi * u)


def _swiss_roll(u: Tensor) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * u)
    return (angle / 5).unsqueeze(-1) * _on_circle(angle)


def _draw_checkerboard(count: int, generator: torch.Generator | None) -> Tensor:
    x = 4 * torch.rand(count, generator=generator) - 2
    dark = x.floor() % 2 - 2 * torch.randint(0, 2, (count,), generator=generator)
    return 2 * torch.stack([x, dark + torch.rand(count, generator=generator)], -1)


def _checkerboard_log_density(x: Tensor) -> Tensor:
    dark = (x / 2).floor().sum(-1) % 2 == 0
    inside = ((x >= -4) & (x < 4)).all(-1)
    return torch.where(dark & inside, x.new_tensor(-math.log(32)), x.new_tensor(-math.inf))


def _draw_pinwheel(count: int, generator: torch.Generator | None) -> Tensor:
    blade = torch.randint(0, 5, (count,), generator=generator)
    along, across = (torch.randn(count, 2, generator=generator) * torch.tensor([0.3, 0.1])).unbind(-1)
    along = along + 1
    angle = _pinwheel_angle(blade, along)
    # The row (along, across) turned clockwise by the angle, as in the published code.
    x = along * torch.cos(angle) + across * torch.sin(angle)
    y = across * torch.cos(angle) - along * torch.sin(angle)
    return 2 * torch.stack([x, y], -1)


def _pinwheel_angle(blade: Tensor, along: Tensor) -> Tensor:
    return blade * (2 * math.pi / 5) + 0.25 * along.exp()


def _pinwheel_log_density(x: Tensor) -> Tensor:
    r"""Sum :math:`N(u; 1, 0.3^2)\, N(v; 0, 0.1^2) / |g'(u)|` over the blades and the roots of g(u) = u'(u) − u.

    (u'(u), v(u)) is the point turned back by the angle of u, so that :math:`g' = -1 - 0.25 e^u v`. A root lies where g
    has another sign at the next node.
    """
    nodes = torch.linspace(1 - 8 * 0.3, 1 + 8 * 0.3, _PINWHEEL_NODES, dtype=torch.float64, device=x.device)
    blades = torch.arange(5, device=x.device).unsqueeze(-1)

    def turned_back(points: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        first, second = points.unbind(-1)
        return first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()

    def of_chunk(points: Tensor) -> Tensor:
        gap = turned_back(points[:, None, None], _pinwheel_angle(blades, nodes))[0] - nodes
        point, blade, node = (gap[..., :-1] * gap[..., 1:] < 0).nonzero(as_tuple=True)
        before, after = gap[point, blade, node], gap[point, blade, node + 1]
        u = torch.lerp(nodes[node], nodes[node + 1], before / (before - after))
        for _ in range(_NEWTON_STEPS):
            along, across = turned_back(points[point], _pinwheel_angle(blade, u))
            u = (u + (along - u) / (1 + 0.25 * u.exp() * across)).clamp(nodes[node], nodes[node + 1])
        across = turned_back(points[point], _pinwheel_angle(blade, u))[1]
        squares = ((u - 1) / 0.3) ** 2 + (across / 0.1) ** 2
        density = (-0.5 * squares).exp() / (1 + 0.25 * u.exp() * across).abs()
        # Five blades, the two normal constants, and the area of a point's surroundings, which is scaled by 2².
        constant = math.log(5 * 2 * math.pi * 0.3 * 0.1 * 4)
        return points.new_zeros(len(points)).index_add(0, point, density).log() - constant

    return torch.cat([of_chunk(points / 2) for points in x.double().split(_CHUNK)]).to(x.dtype)


_TOYS: Mapping[str, ToyDensity] = {
    toy.name: toy
    for toy in (
        _noisy_curve("8gaussians", _eight_centres, 0.5 / math.sqrt(2)),
        _noisy_curve("moons", _two_moons, 0.2),
        _noisy_curve("2spirals", _two_spirals, 0.1),
        _noisy_curve("rings", _four_rings, 0.08),
        _noisy_curve("swissroll", _swiss_roll, 0.2),
        ToyDensity("checkerboard", _draw_checkerboard, _checkerboard_log_density),
        ToyDensity("pinwheel", _draw_pinwheel, _pinwheel_log_density),
    )
}
