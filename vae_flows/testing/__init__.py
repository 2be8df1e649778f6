"""The contract of a flow as checks that anyone can run on theirs.

`check_flow(MyFlow)` runs all of them. A test suite rather runs each as a test of its own::

    @pytest.mark.parametrize("check", vf.testing.CHECKS)
    def test_contract(check):
        check(vf.testing.FlowContract(MyFlow))

Checks draw from a seed of their own and leave the global random state as it was. Nothing here needs a test runner.
"""

from typing import Any

from vae_flows.checks import checked
from vae_flows.testing import map_checks, module_checks
from vae_flows.testing.contract import Build, Check, ContractError, FlowContract

__all__ = ["CHECKS", "ContractError", "FlowContract", "check_flow"]

CHECKS: tuple[Check, ...] = (
    map_checks.transforms_are_pyros,
    map_checks.inverse_undoes_forward,
    map_checks.log_det_is_that_of_the_jacobian,
    map_checks.gradients_reach_parameters_and_inputs,
    map_checks.gradients_are_those_of_finite_differences,
    map_checks.samples_and_batches_have_their_shapes,
    map_checks.context_and_latents_broadcast,
    module_checks.wrong_inputs_are_errors,
    module_checks.dtype_is_kept,
    module_checks.one_latent_dimension_works,
    module_checks.state_survives_a_file,
    module_checks.copies_give_the_same_values,
    module_checks.latest_evaluation_is_cached,
    module_checks.cache_can_be_switched_off,
    module_checks.stale_evaluations_are_not_returned,
    module_checks.densities_follow_the_change_of_variables,
    module_checks.works_in_plates,
    module_checks.repr_names_flow_and_sizes,
)
"""All checks, each a function of a `FlowContract`."""


@checked
def check_flow(build: Build, **settings: Any) -> None:
    """Run every check on a flow.

    Arguments:
        build: Returns a new flow for a latent size and a context size; a flow's class does.
        **settings: The other fields of `FlowContract`, such as `tolerance`.

    Raises:
        ContractError: A check failed. The message has a line for each that did.

    Example:
        >>> from vae_flows.flows import PlanarFlow
        >>> check_flow(PlanarFlow)
    """
    failures = []
    for check in CHECKS:
        try:
            check(FlowContract(build, **settings))
        except ContractError as error:
            failures.append(error)
    if failures:
        raise ContractError("\n".join(map(str, failures))) from failures[0]
