"""Flows under `torch.func`, `torch.compile`, copies and files."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from vae_flows import AmortizedPosterior, FlowDistribution
from vae_flows.cnf.divergence import BruteForceDivergence
from vae_flows.errors import InvalidInputError
from vae_flows.flows import FFJORD, AmortizedFlow

D, C, B, S = 2, 3, 4, 5
SAME = 1e-10  # the same operations, batched otherwise
SOLVER = 1e-5  # two solves at the tolerance of the flows of this folder

BRUTE_FORCE = BruteForceDivergence()

Make = Callable[[int, int], AmortizedFlow]
Parameters = dict[str, Tensor]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def posterior_of(flow: AmortizedFlow) -> AmortizedPosterior:
    return AmortizedPosterior(D, C, flow).double().eval()


def detached(module: torch.nn.Module) -> Parameters:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def test_a_transform_keeps_the_parameters_that_its_flow_was_lent(make_any_flow: Make) -> None:
    flow, context, z = make_any_flow(D, C), normal(B, C), normal(S, B, D)
    lent = {name: parameter + 0.1 for name, parameter in detached(flow).items()}
    transform = functional_call(flow, lent, (context,))
    own = flow(context).forward_with_log_det(z)
    lent_values = transform.forward_with_log_det(z)
    flow.load_state_dict(lent)
    for actual, expected in zip(lent_values, flow(context).forward_with_log_det(z), strict=True):
        assert torch.equal(actual, expected)
    assert not lent or not torch.equal(lent_values[0], own[0])


def log_density(posterior: AmortizedPosterior) -> Callable[[Parameters, Tensor, Tensor], Tensor]:
    return lambda parameters, context, z: functional_call(posterior, parameters, (context,)).log_prob(z).sum()


def test_gradients_of_torch_func_are_those_of_autograd(make_any_flow: Make) -> None:
    flow, context, z = make_any_flow(D, C), normal(B, C), normal(B, D)
    posterior = posterior_of(flow)
    if isinstance(flow, FFJORD) and (flow.cnf.solver.gradient != "backprop" or flow.cnf.eval_divergence == BRUTE_FORCE):
        with pytest.raises(RuntimeError, match=r"setup_context|requires_grad_"):
            grad(log_density(posterior))(detached(posterior), context, z)
        return
    gradients = grad(log_density(posterior))(detached(posterior), context, z)
    posterior(context).log_prob(z).sum().backward()
    for name, parameter in posterior.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=SOLVER, atol=SOLVER)


def test_gradients_of_each_example_by_vmap(make_discrete_flow: Make) -> None:
    posterior, contexts, z = posterior_of(make_discrete_flow(D, C)), normal(B, C), normal(B, D)
    one_by_one = vmap(grad(log_density(posterior)), in_dims=(None, 0, 0))(detached(posterior), contexts, z)
    for example in range(B):
        expected = torch.autograd.grad(
            posterior(contexts[example]).log_prob(z[example]), list(posterior.parameters()), materialize_grads=True
        )
        for name, gradient in zip(detached(posterior), expected, strict=True):
            torch.testing.assert_close(one_by_one[name][example], gradient, rtol=SAME, atol=SAME)


def test_vmap_draws_and_scores(make_discrete_flow: Make) -> None:
    posterior, contexts = posterior_of(make_discrete_flow(D, C)), normal(B, C)
    z, log_q = vmap(lambda context: posterior(context).rsample_with_log_prob((S,)), randomness="different")(contexts)
    assert (z.shape, log_q.shape) == ((B, S, D), (B, S))
    torch.testing.assert_close(log_q, posterior(contexts).log_prob(z.movedim(1, 0)).mT, rtol=SAME, atol=SAME)


def test_a_transform_is_usable_after_vmap(make_discrete_flow: Make) -> None:
    transform, z = make_discrete_flow(D, C)(normal(C)), normal(B, D)
    y = vmap(transform)(z)
    torch.testing.assert_close(transform(z), y, rtol=SAME, atol=SAME)
    torch.testing.assert_close(vmap(transform.inv)(y), z, rtol=SOLVER, atol=SOLVER)


def test_jacobians_of_torch_func(make_flow: Make) -> None:
    transform, z = make_flow(D, C)(normal(C)), normal(D)
    expected = transform.log_abs_det_jacobian(z, transform(z))
    torch.testing.assert_close(torch.linalg.slogdet(jacrev(transform)(z)).logabsdet, expected, rtol=SOLVER, atol=SOLVER)


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
@pytest.mark.parametrize("training", [True, False])
def test_ffjord_says_why_it_cannot_be_mapped(make_ffjord: Callable[..., FFJORD], method: str, training: bool) -> None:
    solver = {"method": method, "options": {"step_size": 0.1} if method == "rk4" else {}}
    flow = make_ffjord(D, C, solver=solver).train(training)
    with pytest.raises(InvalidInputError, match=r"chooses its steps by their values, got a dimension hidden by .*vmap"):
        vmap(lambda context, z: flow(context)(z), randomness="different")(normal(B, C), normal(B, D))


def compiled_agrees(posterior: AmortizedPosterior, backend: str) -> None:
    """Compile drawing and scoring as one graph, and compare value and gradient on a value that was given."""
    torch._dynamo.reset()
    context, z = normal(B, C), normal(S, B, D)

    def value(context: Tensor, z: Tensor) -> Tensor:
        transform = posterior.flow(context)
        y = transform(z)
        return (y.sin().sum(-1) + transform.log_abs_det_jacobian(z, y)).sum()

    parameters = list(posterior.flow.parameters())
    results = []
    for function in (value, torch.compile(value, backend=backend, fullgraph=True)):
        x = z.clone().requires_grad_()
        result = function(context, x)
        results.append([result.detach(), *torch.autograd.grad(result, [x, *parameters])])
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=SAME, atol=SAME)
    draws_and_scores_as_one_graph(posterior, backend)


def draws_and_scores_as_one_graph(posterior: AmortizedPosterior, backend: str) -> None:
    context = normal(B, C)
    draw = torch.compile(lambda h: posterior(h).rsample_with_log_prob((S,)), backend=backend, fullgraph=True)
    z, log_q = draw(context)
    torch.testing.assert_close(log_q, posterior(context).log_prob(z), rtol=SOLVER, atol=SOLVER)


@pytest.fixture
def validation_restored() -> Iterator[None]:
    """Undo what `torch.compile` does to every distribution: it stops their validation for good."""
    before = torch.distributions.Distribution._validate_args
    yield
    torch.distributions.Distribution.set_default_validate_args(before)


@pytest.mark.usefixtures("validation_restored")
def test_drawing_and_scoring_compiles_as_one_graph() -> None:
    draws_and_scores_as_one_graph(AmortizedPosterior(D, C, "planar", num_layers=1).double(), "eager")


@pytest.mark.slow
@pytest.mark.usefixtures("validation_restored")
def test_discrete_flows_compile_as_one_graph(make_discrete_flow: Make) -> None:
    compiled_agrees(posterior_of(make_discrete_flow(D, C)), "aot_eager")


@pytest.mark.slow
@pytest.mark.usefixtures("validation_restored")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_discrete_flow_compiles_to_machine_code() -> None:
    compiled_agrees(AmortizedPosterior(D, C, "iaf", num_layers=1, hidden_dim=8).double(), "inductor")


@pytest.mark.slow
@pytest.mark.usefixtures("validation_restored")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of Dynamo itself
@pytest.mark.parametrize("kind", ["planar", "sylvester-triangular", "ffjord-low-rank"])
def test_what_looks_at_values_breaks_the_graph_and_stays_right(kinds: dict[str, Make], kind: str) -> None:
    torch._dynamo.reset()
    posterior, context, z = posterior_of(kinds[kind](D, C)), normal(B, C), normal(B, D)
    compiled = torch.compile(lambda context, z: posterior(context).log_prob(z), backend="aot_eager")
    torch.testing.assert_close(compiled(context, z), posterior(context).log_prob(z), rtol=SOLVER, atol=SOLVER)


COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


@pytest.mark.parametrize("duplicate", COPIES)
def test_copies_of_distributions_and_transforms(make_flow: Make, duplicate: Callable) -> None:
    posterior, context, z = posterior_of(make_flow(D, C)), normal(B, C), normal(B, D)
    with torch.no_grad():
        q = posterior(context)
        for original in (q, q.expand((S, B)), q.to_event(1)):
            torch.testing.assert_close(duplicate(original).log_prob(z), original.log_prob(z), rtol=0, atol=0)
        transform = q.transforms[0]
        for map_ in (transform, transform.inv):
            other, y = duplicate(map_), map_(z)
            assert other is not map_
            assert torch.equal(other(z), y)
            assert torch.equal(other.with_cache(0).inv(y), map_.with_cache(0).inv(y))
        assert torch.equal(duplicate(posterior.flow.inv).condition(context)(z), posterior.flow(context).inv(z))
    assert isinstance(duplicate(q), FlowDistribution)


def test_pickling_with_a_graph_leaves_the_graph_behind(make_flow: Make) -> None:
    q, z = posterior_of(make_flow(D, C))(normal(B, C)), normal(B, D)
    q.rsample_with_log_prob()
    restored = pickle.loads(pickle.dumps(q))
    assert torch.equal(restored.log_prob(z), q.log_prob(z))


def test_states_are_strict(make_any_flow: Make) -> None:
    flow, other, context, z = make_any_flow(D, C), make_any_flow(D, C), normal(B, C), normal(B, D)
    assert other.load_state_dict(flow.state_dict(), strict=True) == ([], [])
    assert torch.equal(flow(context)(z), other(context)(z))
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"more\""):
        other.load_state_dict({**flow.state_dict(), "more": z})
    for name, value in flow.state_dict().items():
        lacking = {key: tensor for key, tensor in flow.state_dict().items() if key != name}
        with pytest.raises(RuntimeError, match=rf"Missing key\(s\) in state_dict: \"{name}\""):
            other.load_state_dict(lacking)
        with pytest.raises(RuntimeError, match=rf"size mismatch for {name}"):
            other.load_state_dict({**lacking, name: value.new_zeros(value.numel() + 1, 1)})
