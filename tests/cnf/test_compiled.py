"""Compiled evaluations: the results of uncompiled ones, programs made once, and a warning where there are none."""

import copy
import pickle
import shutil
import warnings

import pytest
import torch

import vae_flows as vf
from tests.cnf.small_solves import gradients, problem
from vae_flows.cnf import (
    CompilationWarning,
    ContinuousTransform,
    FunctionField,
    KineticEnergy,
    MLPDynamics,
    ODESolver,
    fused,
)
from vae_flows.cnf.score import ScoredField
from vae_flows.ode import compilation
from vae_flows.ode.compilation import Compilation

ROUNDING = 1e-11  # float64, sums over a solve
COMPILED = ODESolver(compile=True)
PARTS = ("_RATES", "_RECORD", "_PULL_BACK", "_PULL_BACK_LATENTS")
LIMIT = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def _no_programs_yet(monkeypatch):
    """A process in which nothing has been compiled, failed or told."""
    monkeypatch.setattr(compilation, "_failed", set())
    monkeypatch.setattr(compilation, "_told", set())
    for name in PARTS:
        monkeypatch.setattr(fused, name, Compilation(getattr(fused, name)._function))


@pytest.fixture
def programs(monkeypatch):
    """Graphs that were compiled, by a compiler that runs each as it was recorded, which takes no seconds."""
    made = []

    def backend(graph, inputs):
        del inputs
        made.append(graph)
        return graph.forward

    with_inductor = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, fullgraph, mode: with_inductor(f, fullgraph=fullgraph, backend=backend)
    )
    return made


def assert_same(problem_given, z, solver=COMPILED, **options):
    plain = copy.copy(solver)
    object.__setattr__(plain, "compile", False)
    expected, work = gradients(*problem_given, z, plain, **options)
    got, work_here = gradients(*problem_given, z, solver, **options)
    assert work_here.forward_evaluations == work.forward_evaluations
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)


def latents(*shape):
    return torch.randn(*shape, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("gradient", "hidden_dims", "amortized", "divergence", "samples"),
    [
        ("backprop", (7,), "low_rank", {"divergence": "exact"}, ()),
        ("recompute", (7, 6), "bias", {"divergence": "exact"}, (3,)),
        ("backprop", (7, 6), "low_rank", {}, (3,)),
        ("adjoint", (7, 6, 5), "low_rank", {"num_probes": 2}, ()),
        ("backprop", (7, 6), "none", {"divergence": "bottleneck"}, ()),
    ],
)
def test_gradients_are_those_of_uncompiled_evaluations(gradient, hidden_dims, amortized, divergence, samples, programs):
    solver = ODESolver(gradient=gradient, compile=True)
    assert_same(problem(hidden_dims, amortized), latents(*samples, 4), solver, **divergence)
    assert len(programs) == (4 if gradient == "adjoint" else 2)  # the adjoint makes solves without tapes as well
    assert not compilation._told


@pytest.mark.parametrize("activation", ["silu", "tanh"])  # of which one keeps its input
def test_activations_with_and_without_their_input(activation, programs):
    assert_same(problem((5,), "none", activation, "ignore"), latents(4))
    assert len(programs) == 2


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
@pytest.mark.parametrize("amortized", ["none", "low_rank"])
def test_programs_of_the_real_compiler_give_the_same(gradient, amortized):
    solver = ODESolver(gradient=gradient, compile=True)
    for shape in ((4,), (3, 4)):
        assert_same(problem(amortized=amortized), latents(*shape), solver)
    assert not compilation._told


def test_values_alone_have_a_program_of_their_own(programs):
    dynamics, _ = problem()
    for no_gradients in (torch.no_grad, torch.inference_mode):
        with no_gradients():
            plain, compiled = (
                ContinuousTransform(dynamics.condition(), divergence="exact", solver=solver)
                for solver in (ODESolver(), COMPILED)
            )
            z = latents(4)
            for a, b in zip(plain.forward_with_log_det(z), compiled.forward_with_log_det(z), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)
    assert programs
    assert not compilation._told


def test_a_program_is_made_once_for_many_solves_and_objects(programs):
    for _ in range(3):
        assert_same(problem(), latents(4))
    assert len(programs) == 2  # the evaluation and its pull-back


def test_batches_of_many_sizes_share_a_program(programs):
    dynamics, _ = problem()
    for size in (4, 5, 6, 9, 2):
        assert_same((dynamics, None), latents(size))
    assert len(programs) <= 4  # each for the first size, and for all others
    for size in (4, 7):
        for samples in (5, 6, 1):
            assert_same((dynamics, None), latents(samples, size))
    assert len(programs) <= 12
    assert not compilation._told


def test_programs_of_many_structures_do_not_count_against_each_other(programs):
    with torch._dynamo.config.patch(LIMIT, 1):
        for width in (4, 5):
            assert_same(problem((width,)), latents(4))
    assert not compilation._told
    assert len(programs) == 2 * 2


def test_programs_are_bounded(programs, monkeypatch):
    monkeypatch.setattr(compilation, "_MOST_PROGRAMS", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for width in (4, 5, 6):
            assert_same(problem((width,)), latents(4))
    assert [warning.category for warning in caught] == [CompilationWarning]
    assert "1 programs of other sizes" in str(caught[0].message)
    assert len(programs) == 2


def test_sizes_that_cannot_be_variable_end_in_one_warning(programs):
    with torch._dynamo.config.patch(LIMIT, 1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for size in (4, 5, 6):
            assert_same(problem(amortized="none"), latents(size))
    assert [warning.category for warning in caught] == [CompilationWarning]


@pytest.mark.parametrize("failing", ["evaluation", "pull-back"])
def test_a_compiler_that_is_missing_or_fails_is_told_once(failing, monkeypatch):
    attempts = []

    def broken(function, **_):
        def program(*arguments):
            attempts.append(function.__name__)
            if failing == "evaluation" or "pull_back" in function.__name__:
                raise RuntimeError("No working C++ compiler\nfound: CC is unset")
            return function(*arguments)

        return program

    monkeypatch.setattr(torch, "compile", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for amortized in ("none", "low_rank"):
            for _ in range(2):
                assert_same(problem(amortized=amortized), latents(4))
    assert [warning.category for warning in caught] == [CompilationWarning]
    assert "RuntimeError: No working C++ compiler found" in str(caught[0].message)
    assert attempts[0].startswith("_record")
    assert sum("pull_back" in name for name in attempts) == (2 if failing == "pull-back" else 0)  # once a structure


@pytest.mark.slow
@needs_compiler
def test_a_machine_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "missing"),))
    with pytest.warns(CompilationWarning) as caught:
        assert_same(problem(), latents(4))
    assert len(caught) == 1


def test_dynamics_without_a_fused_evaluation_are_told():
    def unfused(solver):
        linear = torch.nn.Linear(3, 3).double()
        return ContinuousTransform(FunctionField(lambda t, z: linear(z)), divergence="brute_force", solver=solver)

    regularized, squashed = MLPDynamics(3, (4,)), MLPDynamics(3, (4,), time_conditioning="squash")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            unfused(COMPILED).forward_with_log_det(latents(4))
            for dynamics, options in ((regularized, {"regularizers": [KineticEnergy(0.1)]}), (squashed, {})):
                ContinuousTransform(dynamics.double().condition(), solver=COMPILED, **options)(latents(4))
    assert [warning.category for warning in caught] == [CompilationWarning] * 3
    assert "ProductsField has no evaluation that is fused" in str(caught[0].message)


def test_scores_carried_along_are_compiled(programs):
    field = problem(amortized="none")[0].condition().prepare(torch.Size([4]))
    probes = torch.randn(1, 4, 1, 3, dtype=torch.float64)
    states = latents(4, 1).repeat(1, 1, 2)
    expected, got = (
        solver.solve(ScoredField(field.with_probes(probes)), states, (0.0, 0.7)) for solver in (ODESolver(), COMPILED)
    )
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=ROUNDING)
    assert len(programs) == 2
    assert not compilation._told


def test_differentiation_by_torch_func_goes_on_uncompiled(programs):
    dynamics, _ = problem()
    z = latents(4)

    def end(solver):
        return lambda z: ContinuousTransform(dynamics.condition(), divergence="exact", solver=solver)(z).sin().sum()

    expected = torch.func.grad(end(ODESolver()))(z)
    with pytest.warns(CompilationWarning, match="torch.func"):
        got = torch.func.grad(end(COMPILED))(z)
    torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)
    assert not programs


def test_nothing_that_is_compiled_goes_into_copies_and_files(programs, tmp_path):
    posterior = vf.AmortizedPosterior(3, 4, "ffjord", hidden_dims=(4,), solver=ODESolver(compile=True, rtol=1e-3))
    context = torch.randn(5, 4)
    posterior(context).rsample().sum().backward()
    assert programs
    for again in (copy.deepcopy(posterior), pickle.loads(pickle.dumps(posterior))):
        assert again.flow.cnf.solver == posterior.flow.cnf.solver
        again(context).rsample().sum().backward()


def test_distributions_keep_their_validation(programs):
    torch._dynamo.eval_frame.TorchPatcher.patch.cache_clear()  # as in a process that compiles for the first time
    before = torch.distributions.Distribution._validate_args
    assert_same(problem(), latents(4))
    assert programs
    assert torch.distributions.Distribution._validate_args is before
