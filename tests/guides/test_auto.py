import copy
import math
import pickle

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import (
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    LKJCholesky,
    Normal,
    ProjectedNormal,
    Uniform,
)
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from torch import nn

import vae_flows as vf
from tests.seeds import reseed
from vae_flows.errors import InvalidInputError, UnknownNameError
from vae_flows.flows import IdentityFlow

ROUNDING = 1e-10


def adam():
    return pyro.optim.Adam({"lr": 0.05})


def hierarchical_model(x, subsample_size=None):
    """A global scale, and a local location and weights."""
    scale = pyro.sample("scale", Gamma(2.0, 2.0))
    with pyro.plate("data", len(x), subsample_size=subsample_size) as indices:
        location = pyro.sample("location", Normal(0.0, 1.0))
        weights = pyro.sample("weights", Dirichlet(torch.ones(3)))
        pyro.sample("x", Normal(location.unsqueeze(-1) + weights, scale.unsqueeze(-1)).to_event(1), obs=x[indices])


def test_sites_of_every_kind_are_found():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("matrix", Normal(torch.zeros(2, 3), 1.0).to_event(2))
            pyro.sample("share", Beta(1.0, 1.0))
            pyro.sample("angle", Uniform(-1.0, 2.0))
            pyro.sample("rates", Gamma(torch.ones(2), 1.0).to_event(1))
            pyro.sample("weights", Dirichlet(torch.ones(4)))
            pyro.sample("factor", LKJCholesky(3, torch.tensor(1.0)))
            pyro.deterministic("nothing", x.sum())
            pyro.factor("more", torch.zeros(len(x)))
            pyro.sample("x", Normal(0.0, 1.0), obs=x[:, 0])

    guide = vf.AmortizedAutoGuide(model, nn.Linear(2, 5), "none")
    x = torch.randn(6, 2)
    guide.setup(x)
    names = ["matrix", "share", "angle", "rates", "weights", "factor"]
    assert [(site.name, site.size) for site in guide.packing.sites] == list(zip(names, [6, 1, 1, 2, 3, 3], strict=True))
    assert (guide.posterior.latent_dim, guide.posterior.context_dim) == (16, 5)
    traced = poutine.trace(poutine.replay(model, trace=poutine.trace(guide).get_trace(x))).get_trace(x)
    for name in names:
        node = traced.nodes[name]
        assert bool(node["fn"].support.check(node["value"]).all())
    guide(x[:4])  # the bounds of a plate's batch are not those of the next
    assert SVI(model, guide, adam(), Trace_ELBO()).step(x) < float("inf")


def test_global_sites_go_to_another_guide_in_a_list():
    guide = AutoGuideList(hierarchical_model)
    guide.append(AutoNormal(poutine.block(hierarchical_model, hide=["location", "weights"])))
    guide.append(vf.AmortizedAutoGuide(hierarchical_model, nn.Linear(3, 4), hidden_dims=(8,)))
    x = torch.randn(12, 3)
    objective = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(hierarchical_model, guide, adam(), objective)
    before = None
    for _ in range(3):
        svi.step(x, subsample_size=5)
        parameters = torch.cat([parameter.detach().flatten() for parameter in guide.parameters()])
        assert before is None or bool((parameters != before).any())
        before = parameters
    assert {name: value.shape for name, value in guide(x, subsample_size=5).items()} == {
        "scale": (),
        "location": (5,),
        "weights": (5, 3),
    }
    with pytest.raises(InvalidInputError, match=r"plate 'data': .* 7, .* got size 12, subsample size 5.*create_plates"):
        guide(x[:7], subsample_size=5)


def test_global_sites_go_to_another_guide_in_a_function():
    of_globals = AutoNormal(poutine.block(hierarchical_model, hide=["location", "weights"]))
    of_locals = vf.AmortizedAutoGuide(hierarchical_model, nn.Linear(3, 4), "none", packing="autoregressive")

    def guide(x, subsample_size=None):
        return {**of_globals(x, subsample_size), **of_locals(x, subsample_size)}

    svi = SVI(hierarchical_model, guide, adam(), Trace_ELBO())
    for rows in (12, 7):
        assert svi.step(torch.randn(rows, 3)) > 0
    assert guide(torch.randn(4, 3))["weights"].shape == (4, 3)


def test_parameters_join_the_first_step(model, x):
    guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), "none")
    assert len(list(guide.parameters())) == 2
    optimizer = adam()
    SVI(model, guide, optimizer, Trace_ELBO()).step(x)
    assert len(optimizer.optim_objs) == len(list(guide.parameters())) == 4
    assert {name.partition(".")[0] for name in pyro.get_param_store()} == {"AmortizedAutoGuide"}
    assert guide.posterior.gaussian.weight.dtype == torch.float64


def test_state_dict_goes_to_a_guide_that_was_set_up(model, x):
    guide, other = (vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), hidden_dims=(8,)) for _ in range(2))
    guide(x)
    pyro.clear_param_store()
    other.setup(x)
    other.load_state_dict(guide.state_dict())
    samples = []
    copied = copy.deepcopy(other)
    for made in (guide, other, copied):
        pyro.clear_param_store()
        reseed(1)
        samples.append(made(x)["rate"])
        assert made(x[:3])["rate"].shape == (3,)  # a copy has the model, too
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])


def test_pickles_go_without_the_model(model, x):
    guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), "none")
    guide.setup(x)
    other = pickle.loads(pickle.dumps(guide))
    assert other(x)["rate"].shape == (5,)
    with pytest.raises(InvalidInputError, match=r"lost its model: expected a batch of a size met.*, got 3 rows"):
        other(x[:3])
    pyro.clear_param_store()
    assert guide(x[:3])["rate"].shape == (3,)


def test_parameter_store_goes_to_a_guide_that_was_set_up(model, x):
    guide, other = (vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), "planar") for _ in range(2))
    SVI(model, guide, adam(), Trace_ELBO()).step(x)
    state = copy.deepcopy(pyro.get_param_store().get_state())
    pyro.clear_param_store()
    pyro.get_param_store().set_state(state)
    other.setup(x)
    with pytest.raises(InvalidInputError, match=r"pyro\.module\('AmortizedAutoGuide.encoder', module, update"):
        other(x)
    for name in ("encoder", "posterior"):
        pyro.module(f"AmortizedAutoGuide.{name}", getattr(other, name), update_module_params=True)
    other(x)
    for key, value in guide.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_module_local_parameters(x, model):
    class Model(pyro.nn.PyroModule):
        def forward(self, x):
            return model(x)

    with pyro.settings.context(module_local_params=True):
        guide = vf.AmortizedAutoGuide(Model(), nn.Linear(3, 4).double(), "none")
        loss = Trace_ELBO()(guide.model, guide)
        loss(x)
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
        before = guide.posterior.gaussian.weight.detach().clone()
        loss(x).backward()
        optimizer.step()
        assert not torch.equal(guide.posterior.gaussian.weight, before)
    assert not list(pyro.get_param_store())


def test_mini_batches_that_the_caller_picks():
    def model(x):
        with pyro.plate("data", 100, subsample_size=len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])

    guide = vf.AmortizedAutoGuide(model, nn.Linear(1, 4), "none")
    for rows in (100, 10, 3):  # also where the first batch is all data
        traced = poutine.trace(guide).get_trace(torch.randn(rows, 1))
        assert traced.nodes["z"]["value"].shape == (rows,)
        assert traced.nodes["z"]["scale"] == pytest.approx(100 / rows)


def test_the_whole_data_after_mini_batches(model):
    guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4), "none")
    data = torch.randn(20, 3)
    for size in (4, 7):
        SVI(model, guide, adam(), Trace_ELBO()).step(data, subsample_size=size)
        assert guide(data, size)["rate"].shape == (size,)
    assert guide(data)["rate"].shape == (20,)


def test_flows_are_made_in_the_mode_of_the_guide(model, x):
    guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), hidden_dims=(8,)).eval()
    guide.setup(x)
    assert not guide.posterior.flow.training


def test_discrete_sites_that_are_enumerated_are_no_part_of_it():
    @config_enumerate
    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", Categorical(torch.ones(3)))
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(k + z, 0.5), obs=x[:, 0])

    guide = vf.AmortizedAutoGuide(model, nn.Linear(1, 4), "none")
    svi = SVI(model, guide, adam(), TraceEnum_ELBO(max_plate_nesting=1))
    assert svi.step(torch.randn(6, 1)) > 0
    assert [site.name for site in guide.packing.sites] == ["z"]


def test_plate_at_another_dimension_among_several(x):
    def model(x):
        with pyro.plate("topics", 2, dim=-1):
            pyro.sample("topic", Normal(0.0, 1.0))
        with pyro.plate("rows", len(x), dim=-2):
            z = pyro.sample("z", Normal(x.new_zeros(2), 1.0).to_event(1))
            with pyro.plate("repeats", 3, dim=-1):
                pyro.sample("x", Normal(z.sum(-1), 1.0), obs=x)

    with pytest.raises(InvalidInputError, match=r"plate: .*'topic' in 'topics'; 'z' in 'rows'. Choose one with plate="):
        vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double())(x)
    with pytest.raises(UnknownNameError, match=r"expected one of rows, topics, got 'row'. Did you mean 'rows'"):
        vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), plate="row")(x)
    for plate in ("rows", lambda x: pyro.plate("rows", len(x), dim=-2)):
        pyro.clear_param_store()
        guide = vf.AmortizedAutoGuide(model, nn.Linear(3, 4).double(), hidden_dims=(8,), plate=plate)
        assert guide(x)["z"].shape == (5, 1, 2)
        blocked = poutine.block(model, hide=["topic"])
        objective = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=2)
        assert SVI(blocked, guide, adam(), objective).step(x) > 0


def test_models_that_do_not_fit_are_told_apart():
    x = torch.randn(6, 2)

    def told(match, *sites, encoder=None, **options):
        def model(x):
            with pyro.plate("data", len(x)):
                for name, site in sites:
                    pyro.sample(name, site)

        guide = vf.AmortizedAutoGuide(model, encoder or nn.Linear(2, 4), **options)
        pyro.clear_param_store()
        with pytest.raises(InvalidInputError, match=match):
            guide(x)

    told(r"model: expected latent sites inside a plate over the batch, got no latent site")
    told(r"site 'k'.*discrete.*TraceEnum_ELBO", ("k", Categorical(torch.ones(3))))
    told(r"site 'w' support: .*ProjectedNormal|Sphere", ("w", ProjectedNormal(torch.ones(3))))
    told(r"site 'u': expected one support for all rows", ("u", Uniform(torch.zeros(6), torch.arange(1.0, 7.0))))
    normal = ("z", Normal(torch.zeros(2), 1.0).to_event(1))
    told(r"'z' \(2,\) packed 'joint'.*\(2, 4\), got \(3, 4\)", normal, flow=IdentityFlow(3, 4))
    told(r"encoder: expected contexts of shape \(6, 5\), got shape \(6, 4\)", normal, context_dim=5)
    told(r"encoder: .* shape \(6, context_dim\), got shape \(12,\)", normal, encoder=nn.Flatten(0))
    told(r"does not take these options \(\['layers'\]\)", normal, flow="planar", layers=3)

    def with_global_sites_only(x):
        pyro.sample("scale", Gamma(1.0, 1.0))

    with pytest.raises(InvalidInputError, match="got 'scale' outside of plates"):
        vf.AmortizedAutoGuide(with_global_sites_only, nn.Linear(2, 4))(x)

    def nested(x):
        with pyro.plate("data", len(x), dim=-2), pyro.plate("times", 3, dim=-1):
            pyro.sample("z", Normal(0.0, 1.0))

    with pytest.raises(InvalidInputError, match=r"site 'z': .* 'data' alone, got one in .*'times'.*\(6, 3\).*to_event"):
        vf.AmortizedAutoGuide(nested, nn.Linear(2, 4), plate="data")(x)


def test_a_model_that_changes_is_told():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(0.0, 1.0))
            if len(x) > 5:
                pyro.sample("extra", Normal(0.0, 1.0))

    guide = vf.AmortizedAutoGuide(model, nn.Linear(2, 4), "none")
    guide(torch.zeros(5, 2))
    with pytest.raises(InvalidInputError, match="the model's local site 'extra', got none such"):
        guide(torch.zeros(6, 2))


def test_latent_sites_of_a_value_are_local_too():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", Normal(0.0, 1.0), obs=x[:, 0], obs_mask=x[:, 0] > 0)

    guide = vf.AmortizedAutoGuide(model, nn.Linear(1, 4), "none")
    with pytest.warns(UserWarning, match="site 'x_unobserved': expected a site without a mask"):
        assert set(guide(torch.randn(6, 1))) == {"x_unobserved"}
    assert math.isfinite(SVI(model, guide, adam(), Trace_ELBO()).step(torch.randn(6, 1)))


def test_a_site_that_the_model_masks_and_the_guide_does_not_is_warned_of():
    """log q would stay where log p(z) drops out, so that the loss is no bound."""
    x, mask = torch.randn(6, 4), torch.tensor([1, 0, 1, 1, 0, 1]).bool()

    def masked(x, mask=mask):
        with pyro.plate("data", len(x)), poutine.mask(mask=mask):
            z = pyro.sample("z", Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", Normal(z.sum(-1), 1.0), obs=x[:, 0])

    with pytest.warns(UserWarning, match=r"site 'z': expected a site without a mask.*poutine.mask\(guide"):
        vf.AmortizedAutoGuide(masked, nn.Linear(4, 8), "none")(x)
    pyro.clear_param_store()
    flow_guide = vf.FlowGuide(nn.Linear(4, 8), vf.AmortizedPosterior(3, 8, "none"), "z")
    with pytest.warns(UserWarning, match="without a mask"):
        flow_guide.check(masked, x)
    for handled, options in (
        (poutine.mask(vf.AmortizedAutoGuide(masked, nn.Linear(4, 8), "none"), mask=mask), {}),
        (vf.AmortizedAutoGuide(masked, nn.Linear(4, 8), "none"), {"mask": torch.ones(6, dtype=torch.bool)}),
        (vf.AmortizedAutoGuide(masked, nn.Linear(4, 8), "none"), {"mask": True}),
    ):
        pyro.clear_param_store()
        assert set(handled(x, **options)) == {"z"}
