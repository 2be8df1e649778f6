"""Hooks on layers that are never called: dynamics are evaluated from their weights.

Hooks that make a weight before each call (`torch.nn.utils.prune`, and `spectral_norm` and `weight_norm` of the older
kind) are run when a solve prepares its layers; parametrizations need nothing. Other hooks would be passed over.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from vae_flows.errors import InvalidInputError, complaint

__all__ = ["make_hooked_weights", "refuse_hooks"]

_MAKING_WEIGHTS = (prune.BasePruningMethod, SpectralNorm, WeightNorm)


def make_hooked_weights(module: nn.Module) -> None:
    """Run the hooks of a module's parts that make weights, as a call of each part would.

    Raises:
        InvalidInputError: A part has other hooks.
    """
    for part in module.modules():
        making = [hook for hook in part._forward_pre_hooks.values() if isinstance(hook, _MAKING_WEIGHTS)]
        refuse_hooks(part, len(making))
        for hook in making:
            hook(part, ())


def refuse_hooks(module: nn.Module, allowed: int = 0) -> None:
    """Check that a module that is not called has no hooks that a call would run.

    Arguments:
        module: The module; its parts are not looked at.
        allowed: How many hooks are known to be harmless.

    Raises:
        InvalidInputError: It has some.
    """
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    count = sum(len(getattr(module, kind)) for kind in kinds) - allowed
    if count:
        raise InvalidInputError(
            complaint(
                f"hooks of {type(module).__name__}",
                "none but those of prune, spectral_norm and weight_norm, as its weights are used without calling it",
                f"{count} other{'s' * (count > 1)}",
                "Use torch.nn.utils.parametrize, or give the dynamics as a callable to ContinuousTransform.",
            )
        )
