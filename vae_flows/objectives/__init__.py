r"""What training maximises, in plain PyTorch, for any model and any reparameterised posterior.

| bound of log p(x) | of weights w = p(x, z) / q(z) | α | source |
|---|---|---|---|
| `elbo` | E[log w] | 1 | Kingma & Welling 2014; with β, Higgins et al. 2017 |
| `importance_weighted_bound` | E[log mean w] | 0 | Burda et al. 2016 |
| `renyi_bound` | E[log mean w^(1 − α)] / (1 − α) | any | Li & Turner 2016 |

Each has two unbiased estimators of its gradient in the parameters of q, chosen by `gradient`. The value and the
gradient in the parameters of the model are the same with both.

- `reparameterized` differentiates through all that z and log q depend on.
- `path` follows z alone: :math:`\sum_k c_k\, \partial_z \log w_k\, \partial_\phi z_k`. For the ELBO, what is left out
  has expectation zero and :math:`c_k = 1/K`: sticking the landing (Roeder et al. 2017; for flows Vaitl et al. 2022).
  For the others it is reparameterised once more, which with the normalised :math:`\tilde w_k \propto w_k^{1-\alpha}`
  makes :math:`c_k = \alpha \tilde w_k + (1 - \alpha) \tilde w_k^2`: the doubly reparameterised gradient (Tucker et al.
  2019 for α = 0; for other α it follows likewise, from :math:`\partial_z \tilde w_k = (1 - \alpha)\, \tilde w_k (1 -
  \tilde w_k)\, \partial_z \log w_k`). Where q is the posterior, its variance is zero. It takes the score of q, which
  flows carry along with the sample.

Regularisers of a flow are no part of a bound; `elbo` and `renyi_terms` return them beside it.
"""

from vae_flows.objectives.bounds import (
    ELBO,
    elbo,
    for_nonlinear_bound,
    importance_weighted_bound,
    renyi_average,
    renyi_bound,
    renyi_terms,
)
from vae_flows.objectives.draws import Draws, GradientEstimator, draw

__all__ = [
    "ELBO",
    "Draws",
    "GradientEstimator",
    "draw",
    "elbo",
    "for_nonlinear_bound",
    "importance_weighted_bound",
    "renyi_average",
    "renyi_bound",
    "renyi_terms",
]
