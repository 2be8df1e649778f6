"""A trained VAE as programs without Python: by `torch.export`, and as ONNX files that ONNX Runtime runs."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.export import Dim, ExportedProgram

from vae_flows.checks import checked, described
from vae_flows.cnf.density import ContinuousNormalizingFlow
from vae_flows.distributions.diagonal_normal import DiagonalNormal
from vae_flows.distributions.evaluation import carried, of_larger_events
from vae_flows.distributions.records import Draw
from vae_flows.distributions.structure import is_transformed
from vae_flows.errors import InvalidInputError, VAEFlowsError, complaint
from vae_flows.extras import needing
from vae_flows.modules import in_mode
from vae_flows.ode.solver import ODESolver
from vae_flows.persistence.files import checked_path
from vae_flows.persistence.json_files import check_destination, write_files
from vae_flows.protocols import condition_posterior
from vae_flows.vae import VAE

__all__ = ["ExportedVAE", "OnnxFiles", "to_onnx", "to_programs"]

ENCODE, DECODE = "encode.onnx", "decode.onnx"
INPUTS = {ENCODE: ("x", "noise"), DECODE: ("z",)}
OUTPUTS = {ENCODE: ("z", "log_q"), DECODE: ("mean", "parameters")}
MOST_APART = 1e-3
"""Of float32, through some hundred operations, relative to the largest number; other programs differ by more."""


@dataclass(frozen=True)
class ExportedVAE:
    """Two programs, of any number of examples N, with the weights inside.

    Arguments:
        encode: Maps examples x `(N, *event)` and standard normal noise `(N, D)` to z `(N, D)`, a draw from q(z | x),
            and log q(z | x) in nats `(N,)`. Noise 0 gives the image of the base Gaussian's mean.
        decode: Maps z `(N, D)` to the mean of p(x | z), `(N, *event)`, and to the likelihood's parameters.
    """

    encode: ExportedProgram
    decode: ExportedProgram


@dataclass(frozen=True)
class OnnxFiles:
    """The same two programs as files.

    Arguments:
        encode: Has the inputs `x` and `noise` and the outputs `z` and `log_q`.
        decode: Has the input `z` and the outputs `mean` and `parameters`.
        largest_difference: Between what ONNX Runtime and PyTorch compute for the examples, over all outputs, relative
            to the largest number of each.
    """

    encode: Path
    decode: Path
    largest_difference: float


@checked
def to_programs(vae: VAE, examples: Tensor, *, solver: ODESolver | None = None) -> ExportedVAE:
    """Export a VAE by `torch.export`: encoder and posterior in one program, decoder and likelihood in another.

    Works with recent releases of PyTorch; 2.6 records posteriors `none` and `planar` alone. The density is exact, as in
    evaluation mode. A continuous flow takes fixed steps, for steps chosen by the data
    cannot be recorded.

    Arguments:
        vae: The model; it stays as it is.
        examples: Two or more examples `(N, *event)`, such as a batch of the test part, to record with.
        solver: Fixed steps for its continuous flows; by default those of their `eval_solver`.

    Returns:
        Two programs for any number of examples.

    Raises:
        InvalidInputError: Fewer than two examples, steps that are not fixed, a trace that is estimated, a posterior
            that is no Gaussian carried by transforms, or a part that this release of PyTorch cannot record.

    Example:
        >>> import torch, vae_flows as vf
        >>> encoder, decoder = vf.networks.MLPEncoder((4,), (8,), 6), vf.networks.MLPDecoder(2, (4,), (8,), 1)
        >>> likelihood = vf.likelihoods.GaussianLikelihood(scale="learned", event_dim=1)
        >>> vae = vf.VAE(encoder, decoder, vf.AmortizedPosterior(2, 6, flow="planar"), likelihood)
        >>> programs = to_programs(vae, torch.randn(2, 4))
        >>> z, log_q = programs.encode.module()(torch.randn(5, 4), torch.zeros(5, 2))
        >>> z.shape, log_q.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """
    with _recordable(vae, solver) as model:
        encode, decode, noise, z = _programs(model, examples)
        return ExportedVAE(_recorded("posterior", encode, examples, noise), _recorded("decoder", decode, z))


@checked
def to_onnx(vae: VAE, folder: Path | str, examples: Tensor, *, solver: ODESolver | None = None) -> OnnxFiles:
    """Export a VAE to `encode.onnx` and `decode.onnx`, and hold what ONNX Runtime computes against PyTorch.

    Needs `pip install 'vae-flows[onnx]'`.

    Arguments:
        vae: The model; it stays as it is.
        folder: Where to write the two files; it is made where it lacks.
        examples: Two or more examples `(N, *event)`, to record and to compare with.
        solver: Fixed steps for continuous flows; by default those of their `eval_solver`.

    Returns:
        The files' paths, and how far the two are apart.

    Raises:
        InvalidInputError: As for `to_programs`, or ONNX Runtime computes other numbers; nothing is written then.
        MissingPackageError: A package of the extra is not installed.
        FileError: The folder cannot be written to.
    """
    with needing("onnx"):
        import onnxruntime
        import onnxscript  # noqa: F401 -- what torch.onnx needs, told in one line where it lacks

    path = checked_path(folder, "folder of ONNX files")
    check_destination(path, ENCODE, DECODE)
    programs = to_programs(vae, examples, solver=solver)
    with _recordable(vae, solver) as model, torch.no_grad():
        encode, decode, noise, z = _programs(model, examples)
        given = {ENCODE: (examples, noise), DECODE: (z,)}
        wanted = {ENCODE: encode(examples, noise), DECODE: decode(z)}
    contents = {ENCODE: _to_onnx(programs.encode, ENCODE), DECODE: _to_onnx(programs.decode, DECODE)}
    apart = 0.0
    for name, content in contents.items():
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        feed = {key: tensor.numpy() for key, tensor in zip(INPUTS[name], given[name], strict=True)}
        for output, expected, found in zip(OUTPUTS[name], wanted[name], session.run(None, feed), strict=True):
            difference = _difference(np.asarray(found), expected.numpy())
            if not difference <= MOST_APART:
                subject = f"{output} of {name}"
                raise InvalidInputError(complaint(subject, "what PyTorch computes", f"{difference:.2g} off it"))
            apart = max(apart, difference)
    encoder, decoder = write_files(path, contents)
    return OnnxFiles(encoder, decoder, apart)


class _Encode(nn.Module):
    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        seen = x if self.vae.standardization is None else self.vae.standardization(x)
        q = condition_posterior(self.vae.posterior, self.vae.encoder(seen), noise.shape[-1])
        drawn = _drawn(q, noise)
        return drawn.z, drawn.log_q


class _Decode(nn.Module):
    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.vae.decode(z).mean, self.vae.decoder(z)


def _drawn(q: Distribution, noise: Tensor) -> Draw:
    """Return the draw of q that comes of this noise."""
    if is_transformed(q):
        return carried(q, _drawn(q.base_dist, noise))
    if isinstance(q, Independent):
        return of_larger_events(_drawn(q.base_dist, noise), q)
    if not isinstance(q, Normal | DiagonalNormal):
        expected = "a diagonal Gaussian, carried by transforms or not"
        raise InvalidInputError(complaint("posterior of an exported VAE", expected, described(q)))
    z = q.loc + q.scale * noise
    return Draw(z, q.log_prob(z))


@contextmanager
def _recordable(vae: VAE, solver: ODESolver | None) -> Iterator[VAE]:
    """Lend a copy in evaluation mode, on the CPU, whose continuous flows take fixed steps and have an exact trace."""
    model = copy.deepcopy(vae).cpu().requires_grad_(False)
    for flow in model.posterior.modules() if isinstance(model.posterior, nn.Module) else ():
        if not isinstance(flow, ContinuousNormalizingFlow):
            continue
        flow.eval_solver = solver or flow.eval_solver
        if not flow.eval_solver.has_fixed_steps:
            expected, got = "fixed steps, which can be recorded", f"method {flow.eval_solver.method!r}"
            remedy = 'Pass solver=ODESolver(method="rk4", options={"step_size": 0.05}), say.'
            raise InvalidInputError(complaint("solver of an exported flow", expected, got, remedy))
        if flow.eval_divergence.is_estimate:
            got, remedy = repr(flow.eval_divergence), 'Make the flow with eval_divergence="exact".'
            raise InvalidInputError(complaint("eval_divergence of an exported flow", "an exact trace", got, remedy))
    with in_mode(model, training=False):
        yield model


def _programs(vae: VAE, examples: Tensor) -> tuple[_Encode, _Decode, Tensor, Tensor]:
    """Return both programs, noise for the examples, and the latents that it gives."""
    if examples.dim() < 2 or len(examples) < 2:
        expected = "two examples or more, (N, *event)"
        raise InvalidInputError(complaint("examples to export with", expected, described(examples)))
    with torch.no_grad():
        z = vae.encode(examples).sample()  # what the model cannot take is refused here, in its own words
        noise = torch.randn_like(z)
        encode, decode = _Encode(vae), _Decode(vae)
        return encode, decode, noise, encode(examples, noise)[0]


def _recorded(part: str, program: nn.Module, *inputs: Tensor) -> ExportedProgram:
    """Record a program of any number of examples, and see that what was recorded computes the same.

    Raises:
        InvalidInputError: PyTorch cannot.
    """
    count = Dim("examples")
    try:
        with _recording(), torch.no_grad():
            recorded = torch.export.export(program, inputs, dynamic_shapes=({0: count},) * len(inputs), strict=False)
            for found, expected in zip(recorded.module()(*inputs), program(*inputs), strict=True):
                if not _difference(found.numpy(), expected.numpy()) <= MOST_APART:
                    raise ArithmeticError("what was recorded computes other numbers")
            return recorded
    except VAEFlowsError:
        raise
    except Exception as error:  # its kinds differ between releases
        subject, expected = f"{part} of an exported VAE", f"what PyTorch {torch.__version__} can record"
        reason = next(iter(str(error).strip().splitlines()), "")
        remedy = "Recent releases record more; 2.6 records the posteriors none and planar alone."
        raise InvalidInputError(complaint(subject, expected, f"{type(error).__name__} ({reason})", remedy)) from error


def _to_onnx(program: ExportedProgram, name: str) -> bytes:
    with _recording():
        program = program.run_decompositions({torch.ops.aten.linalg_solve_triangular.default: _solve_triangular})
        converted = torch.onnx.export(
            program, input_names=INPUTS[name], output_names=OUTPUTS[name], dynamo=True, verbose=False
        )
    return cast(torch.onnx.ONNXProgram, converted).model_proto.SerializeToString()


def _solve_triangular(
    matrix: Tensor, right: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Solve a triangular system by matrix products, as ONNX has no operator for it.

    With L = D (I + N), N is nilpotent, and (I + N)⁻¹ = (I − N)(I + N²)(I + N⁴)… ends after log₂ of the size.
    """
    if not left:
        return _solve_triangular(matrix.mT, right.mT, upper=not upper, unitriangular=unitriangular).mT
    strict = matrix.triu(1) if upper else matrix.tril(-1)
    if not unitriangular:
        diagonal = matrix.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
        strict, right = strict / diagonal, right / diagonal
    power = -strict
    for _ in range((matrix.shape[-1] - 1).bit_length()):
        right, power = right + power @ right, power @ power
    return right


@contextmanager
def _recording() -> Iterator[None]:
    """Keep the exporter's notes on its own workings from the user, and distributions from looking at values."""
    validated = Distribution._validate_args  # the default of new distributions; torch has a setter alone
    Distribution.set_default_validate_args(False)
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        Distribution.set_default_validate_args(validated)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max(initial=0.0) / max(1.0, np.abs(expected).max(initial=0.0)))
