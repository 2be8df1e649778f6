"""The optimisers of `torch.optim` by name, apart from those that cannot train by one gradient a step."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vae_flows.errors import InvalidInputError, complaint, did_you_mean, unknown_name

__all__ = [
    "available_optimizers",
    "check_optimizer",
    "make_optimizer",
    "optimizer_parameters",
    "restore_optimizer",
    "states_of_a_parameter",
]

UNFIT: Mapping[str, str] = {
    "LBFGS": "It evaluates the loss several times a step, and here every step has one batch and one set of draws.",
    "SparseAdam": "It takes sparse gradients, and those of a VAE are dense.",
}
WITHOUT_USE: Mapping[str, str] = {
    "params": "The parameters are those of the model.",
    "lr": "Set learning_rate.",
    "maximize": "Training minimises the loss.",
    "differentiable": "Nothing differentiates through a step.",
    "capturable": "Steps are not captured in a CUDA graph.",
}


def available_optimizers() -> tuple[str, ...]:
    """Return the names of all optimisers that training takes, sorted, as `torch.optim` spells them.

    Example:
        >>> {"Adamax", "AdamW", "SGD"} <= set(available_optimizers()), "LBFGS" in available_optimizers()
        (True, False)
    """
    return tuple(sorted(_classes().keys() - UNFIT.keys()))


def check_optimizer(owner: str, name: object, options: object) -> None:
    """Check that there is an optimiser of this name, and that it takes options of these names.

    Their values are checked by PyTorch, when the optimiser is made.

    Raises:
        UnknownNameError: No optimiser has that name.
        InvalidInputError: It cannot train here, or has no such option, or no use for it.

    Example:
        >>> check_optimizer("TrainingSettings", "LBFGS", {})
        Traceback (most recent call last):
        vae_flows.errors.InvalidInputError: TrainingSettings optimizer: expected one that takes a step from one \
gradient, got 'LBFGS'. It evaluates the loss several times a step, and here every step has one batch and one set of \
draws.
    """
    if isinstance(name, str) and name in UNFIT:
        expected = "one that takes a step from one gradient"
        raise InvalidInputError(complaint(f"{owner} optimizer", expected, repr(name), UNFIT[name]))
    if not isinstance(name, str) or name not in available_optimizers():
        raise unknown_name("optimizer", name, available_optimizers())
    subject = f"{owner} optimizer_options"
    if not isinstance(options, Mapping):
        raise InvalidInputError(complaint(subject, "a mapping of options by name", repr(options)))
    known = [parameter.name for parameter in optimizer_parameters(name)]
    for option in options:
        if option not in known:
            remedy = WITHOUT_USE.get(option) if isinstance(option, str) else None
            expected = f"options of {name} among {', '.join(known)}"
            raise InvalidInputError(complaint(subject, expected, repr(option), remedy or did_you_mean(option, known)))


def optimizer_parameters(name: str) -> tuple[Parameter, ...]:
    """Return the parameters of the options that an optimiser takes, their annotations being types.

    Raises:
        UnknownNameError: No optimiser has that name.

    Example:
        >>> [(parameter.name, parameter.default) for parameter in optimizer_parameters("Adam")][:2]
        [('betas', (0.9, 0.999)), ('eps', 1e-08)]
    """
    if name not in available_optimizers():
        raise unknown_name("optimizer", name, available_optimizers())
    kind = _classes()[name]
    hints = get_type_hints(kind.__init__)
    options = [option for option in signature(kind).parameters.values() if option.name not in WITHOUT_USE]
    return tuple(option.replace(annotation=hints.get(option.name, option.annotation)) for option in options)


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, options: Mapping[str, Any]
) -> Optimizer:
    """Make an optimiser of the parameters, once `check_optimizer` has passed its name and options.

    Raises:
        InvalidInputError: It refuses the value of an option, or these parameters.
    """
    parameters = list(parameters)
    if not parameters:
        raise InvalidInputError(complaint("parameters of the model", "one that can be trained, or more", "none"))
    try:
        return _classes()[name](parameters, lr=learning_rate, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        subject = f"optimizer {name} with learning_rate={learning_rate!r}, optimizer_options={dict(options)!r}"
        raise InvalidInputError(complaint(subject, "one that fits this model", str(error))) from None


def states_of_a_parameter(optimizer: Optimizer, parameter: Tensor) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what an optimiser like this one keeps of a parameter before and after its first step, to compare with."""
    group = next(group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
    options = {key: value for key, value in group.items() if key != "params"}
    twin = nn.Parameter(torch.zeros_like(parameter))
    known = signature(type(optimizer)).parameters
    other = type(optimizer)([twin], **{key: value for key, value in options.items() if key in known})
    before = copy.deepcopy(other.state[twin])
    twin.grad = torch.zeros_like(twin)
    other.step()
    return before, other.state[twin]


def restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a checked state, each tensor in the dtype that it had; PyTorch gives it that of the parameter."""
    optimizer.load_state_dict(dict(state))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        own = optimizer.state[parameter]
        for name, value in state["state"][number].items():
            if isinstance(value, Tensor) and own[name].dtype != value.dtype:
                own[name] = value.to(own[name].device)


def _classes() -> dict[str, Any]:
    found = {name: getattr(torch.optim, name) for name in dir(torch.optim)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
