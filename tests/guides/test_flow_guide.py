import copy
import pickle

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Gamma, Normal, constraints
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from pyro.nn import PyroModule
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError, UnknownNameError

ROUNDING = 1e-10
SITES = [vf.LocalSite("location", (2,)), vf.LocalSite("rate", (), constraints.positive)]


def one_site_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", Normal(z, 0.5).to_event(1), obs=x)


def flow_guide(exact, site=SITES, packing="joint", **options):
    sizes = {"joint": [(3, 3)], "separate": [(2, 3), (1, 3)], "autoregressive": [(2, 3), (1, 5)]}[packing]
    posteriors = [vf.AmortizedPosterior(*size, "none").double() for size in sizes]
    return exact(vf.FlowGuide(nn.Identity(), posteriors, site, packing=packing, **options))


@pytest.mark.parametrize("flow", ["none", "ffjord"])
def test_guide_learns_a_conjugate_posterior(flow):
    solver = vf.ODESolver(method="rk4", options={"step_size": 0.5})
    options = {"hidden_dims": (8,), "amortization": "bias", "solver": solver} if flow == "ffjord" else {}
    guide = vf.FlowGuide(nn.Linear(2, 8), vf.AmortizedPosterior(2, 8, flow, **options))
    objective = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(one_site_model, guide, pyro.optim.Adam({"lr": 4e-2}), objective)
    x = torch.randn(16, 2)
    for _ in range(120):
        svi.step(x)
    guide.eval()
    with torch.no_grad():
        z = guide.posterior(guide.encoder(x)).rsample((4000,))
    # prior N(0, 1), noise 0.5²: posterior N(0.8 x, 0.2)
    assert float((z.mean(0) - 0.8 * x).abs().max()) < 0.25
    assert 0.3 < float(z.std(0).mean()) < 0.6


@pytest.mark.parametrize("packing", ["joint", "separate", "autoregressive"])
def test_several_sites(packing, model, x, exact, log_evidence):
    guide = flow_guide(exact, packing=packing)
    guide.check(model, x)
    assert Trace_ELBO().loss(model, guide, x) == pytest.approx(-float(log_evidence(x).sum()), abs=ROUNDING)
    assert {name: value.shape for name, value in guide(x).items()} == {"location": (5, 2), "rate": (5,)}
    assert guide.last_solve is None


def test_a_given_value_is_scored(x):
    guide = vf.FlowGuide(nn.Linear(2, 8), vf.AmortizedPosterior(2, 8, "ffjord", hidden_dims=(8,))).double().eval()
    z = torch.randn(5, 2, dtype=torch.float64)
    traced = poutine.trace(poutine.condition(guide, {"z": z})).get_trace(x[:, :2])
    expected = guide.posterior(guide.encoder(x[:, :2])).log_prob(z).sum()
    torch.testing.assert_close(traced.log_prob_sum(), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("already_picked", [False, True])
def test_a_plate_of_the_users_own(already_picked, exact):
    """A subsample drawn elsewhere, in a plate at dimension -2, from all data or from the mini-batch."""
    data = torch.randn(20, 3, dtype=torch.float64)
    rows = torch.tensor([3, 1, 7])

    def plate(x, rows):
        return pyro.plate("data", 20, subsample=rows, dim=-2)

    def model(x, rows):
        with plate(x, rows):
            location = pyro.sample("location", Normal(x.new_zeros(2), 1.0).to_event(1))
            rate = pyro.sample("rate", Gamma(x.new_tensor(2.0), 1.0))
            assert (location.shape, rate.shape) == ((3, 1, 2), (3, 1))
            with pyro.plate("repeated", 2, dim=-1):
                pyro.sample("x", Normal(location, 1.0).to_event(1), obs=data[rows, None, :2].expand(3, 2, 2))

    x = data[rows] if already_picked else data
    guide = flow_guide(exact, plate=plate)
    guide.check(model, x, rows)
    traced = poutine.trace(guide).get_trace(x, rows)
    assert traced.nodes["rate"]["scale"] == pytest.approx(20 / 3)
    means = traced.nodes["_location_rate_joint"]["fn"].base_dist.loc
    torch.testing.assert_close(means, 0.8 * data[rows].unsqueeze(1), rtol=0, atol=ROUNDING)
    assert SVI(model, guide, pyro.optim.Adam({}), Trace_ELBO()).step(x, rows) > 0


def test_encoder_inputs_are_picked_from_the_models_arguments(exact):
    class Both(nn.Module):
        def forward(self, x, y):
            return torch.cat([x, y], -1)

    posterior = vf.AmortizedPosterior(2, 3, "none")
    guide = vf.FlowGuide(Both(), posterior, encoder_inputs=lambda first, x, *, y: (x, y))
    assert guide("unused", torch.zeros(4, 2), y=torch.zeros(4, 1))["z"].shape == (4, 2)
    guide = vf.FlowGuide(nn.Linear(2, 3), posterior, site="w", encoder_inputs=lambda first, x: x)
    assert guide("unused", torch.zeros(4, 2))["w"].shape == (4, 2)


def test_a_part_of_a_larger_guide(x):
    def model(x):
        scale = pyro.sample("scale", Gamma(2.0, 2.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(z, scale).to_event(1), obs=x[:, :2])

    class Guide(PyroModule):
        def __init__(self):
            super().__init__()
            self.of_scale = AutoNormal(poutine.block(model, hide=["z"]))
            self.of_z = vf.FlowGuide(nn.Linear(3, 4), vf.AmortizedPosterior(2, 4, "none"))

        def forward(self, x):
            self.of_scale(x)
            self.of_z(x)

    listed = AutoGuideList(model)
    listed.append(AutoNormal(poutine.block(model, hide=["z"])))
    # The list makes the plates of all its guides.
    posterior = vf.AmortizedPosterior(2, 4, "none")
    listed.append(vf.FlowGuide(nn.Linear(3, 4), posterior, plate=lambda x: listed.plates["data"]))
    for guide, name in ((Guide(), "of_z.encoder$$$weight"), (listed, "AutoGuideList.1._guide.encoder$$$weight")):
        pyro.clear_param_store()
        before = None
        for _ in range(2):
            SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO()).step(x.float())
            weight = pyro.param(name).detach().clone()
            assert before is None or not torch.equal(weight, before)
            before = weight


def test_parameters_belong_to_one_guide(x):
    def make():
        return vf.FlowGuide(nn.Linear(3, 4), vf.AmortizedPosterior(2, 4, "planar"))

    x, guide = x.float(), make()
    svi = SVI(lambda x: one_site_model(x[:, :2]), guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    svi.step(x)
    assert {name.replace("z.", "").replace("$$$", ".") for name in pyro.get_param_store()} == set(guide.state_dict())
    state = copy.deepcopy(pyro.get_param_store().get_state())
    other = make()
    with pytest.raises(InvalidInputError, match=r"'z.encoder\$\$\$weight'.*clear_param_store"):
        other(x)
    pyro.clear_param_store()
    pyro.get_param_store().set_state(state)
    for name in ("encoder", "posterior"):
        pyro.module(f"z.{name}", getattr(other, name), update_module_params=True)
    other(x)
    for key, value in guide.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_copies_and_pickles(x):
    guide = vf.FlowGuide(nn.Linear(3, 4), vf.AmortizedPosterior(3, 4, "none"), SITES)
    guide(x.float())
    for other in (copy.deepcopy(guide), pickle.loads(pickle.dumps(guide))):
        pyro.clear_param_store()
        reseed(1)
        expected = guide(x.float())
        pyro.clear_param_store()
        reseed(1)
        assert torch.equal(other(x.float())["rate"], expected["rate"])


def test_module_local_parameters(x):
    class Model(PyroModule):
        def forward(self, x):
            one_site_model(x[:, :2])

    with pyro.settings.context(module_local_params=True):
        for _ in range(2):  # of one name, and apart
            guide = vf.FlowGuide(nn.Linear(3, 4), vf.AmortizedPosterior(2, 4, "planar"))
            loss = Trace_ELBO()(Model(), guide)
            optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
            before = guide.encoder.weight.detach().clone()
            loss(x.float()).backward()
            optimizer.step()
            assert not torch.equal(guide.encoder.weight, before)
    assert not list(pyro.get_param_store())


def test_wrong_encoders_and_batches_are_told():
    x, posterior = torch.zeros(4, 2), vf.AmortizedPosterior(2, 8, "none")
    for encoder, got in (
        (nn.Flatten(0), r"shape \(8,\)"),
        (nn.Linear(2, 7), r"shape \(4, 7\)"),
        (nn.Unflatten(0, (2, 2)), r"shape \(2, 2, 2\)"),
        (nn.LSTM(2, 8), "got tuple"),
    ):
        pyro.clear_param_store()
        with pytest.raises(
            InvalidInputError, match=rf"'z' \(2,\) encoder: expected contexts of shape \(4, 8\), .*{got}"
        ):
            vf.FlowGuide(encoder, posterior)(x)
    pyro.clear_param_store()
    guide = vf.FlowGuide(nn.Linear(2, 8), posterior, plate=lambda x: pyro.plate("data", 9, subsample_size=5, dim=-1))
    with pytest.raises(InvalidInputError, match=r"plate 'data': .* 4, .* shape \(4, 2\), got size 9, subsample size 5"):
        guide(x)
    guide = vf.FlowGuide(nn.Linear(2, 8), posterior, encoder_inputs=lambda x, y: (x, y))
    with pytest.raises(InvalidInputError, match=r"equally many rows.* shape \(4, 2\), shape \(3, 2\)"):
        guide(x, x[:3])
    with pytest.raises(InvalidInputError, match=r"no plates of size 0, got shape \(0, 2\)"):
        vf.FlowGuide(nn.Linear(2, 8), posterior)(x[:0])
    with pytest.raises(InvalidInputError, match="no positional argument"):
        vf.FlowGuide(nn.Linear(2, 8), posterior)(x=x)
    with pytest.raises(InvalidInputError, match=r"'z' \(3,\) packed 'joint'.* \(3, 8\), got \(2, 8\)"):
        vf.FlowGuide(nn.Linear(2, 8), posterior, vf.LocalSite("z", (3,)))


def test_check_tells_what_model_and_guide_disagree_on(model, x, exact):
    location, rate = SITES

    def check(sites, size=3, plate="data", model=model):
        posterior = vf.AmortizedPosterior(size, 3, "none").double()
        vf.FlowGuide(nn.Identity(), posterior, sites, plate).check(model, x)

    check(SITES)
    check([rate, location])
    check([location, vf.LocalSite("rate", (), constraints.interval(0.0, 9.0))])  # within the support
    with pytest.raises(InvalidInputError, match=r"the model's local site 'rate', got none such.*hide=\['rate'\]"):
        check([location], 2)
    with pytest.raises(InvalidInputError, match=r"site 'other'.*'location' \(2,\), 'rate' \(\), got .* absent"):
        check([*SITES, vf.LocalSite("other")], 4)
    with pytest.raises(InvalidInputError, match=r"site 'x'.*outside of plate 'data', or observed"):
        check([*SITES, vf.LocalSite("x", (3,))], 6)
    with pytest.raises(InvalidInputError, match=r"site 'location': expected event shape \(2,\), got \(2, 1\)"):
        check([vf.LocalSite("location", (2, 1)), rate])
    with pytest.raises(InvalidInputError, match=r"site 'rate': expected the support GreaterThan.*got Real"):
        check([location, vf.LocalSite("rate")])
    with pytest.raises(UnknownNameError, match="plate with latent sites: expected one of data, got 'date'"):
        check(SITES, plate="date")
    with pytest.raises(InvalidInputError, match=r"plate 'data': expected 5 of 5 rows at dimension -1, .* 5 of 9 at -1"):
        check(SITES, plate=lambda x: pyro.plate("data", 9, subsample_size=5, dim=-1))

    def with_a_global_site(x):
        pyro.sample("location", Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("rate", Gamma(1.0, 1.0))

    check([rate], 1, model=with_a_global_site)
    with pytest.raises(InvalidInputError, match=r"site 'location': .* outside of plate 'data'"):
        check(SITES, model=with_a_global_site)
