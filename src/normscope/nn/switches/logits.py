"""Batch statistics at the final logits only."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from normscope.nn.normalizer import Normalizer
from normscope.nn.switches.switch import Option, Switch, check

_SOURCE = '"Is Batch Norm unique?", Rao and Sohl-Dickstein 2020, arXiv:2010.10687, appendix A'


def logits_norm(*, mean: bool = True, variance: bool = True) -> Switch:
    r"""Subtract the batch's mean from the logits, divide them by its standard deviation, or both.

    .. math:: \ell'_{n,k} = \frac{\ell_{n,k} - [\mu_k]}{[\sqrt{\sigma_k^2 + \epsilon}]}, \qquad
              \mu_k = \frac1N \sum_n \ell_{n,k}, \quad \sigma_k^2 = \frac1N \sum_n (\ell_{n,k} - \mu_k)^2

    In eval mode by running averages of both (momentum 0.1, eps 1e-5, as in torch.nn.BatchNorm1d without gain and
    shift, which it equals with both). Division alone does not subtract the mean.

    Shape: logits (..., K); the batch are all axes but the last (examples, tokens).

    Args:
        mean: whether the mean is subtracted.
        variance: whether the standard deviation is divided by.

    Raises:
        ValueError: neither of the two, or an option is not a truth value.

    Source: "Is Batch Norm unique?", arXiv:2010.10687, appendix A ("targeting Hessian conditioning"), after Page 2019,
    "How to train your ResNet 7: batch norm".
    """
    for option, value in (("mean", mean), ("variance", variance)):
        check("logits_norm", option, value, isinstance(value, bool), "True or False")
    if not (mean or variance):
        raise ValueError("logits_norm subtracts the mean, divides by the variance or both, got neither; turn one on.")
    options: dict[str, Option] = {"mean": mean, "variance": variance}
    top, bottom = "l - mean_batch l" if mean else "l", " / std_batch l" if variance else ""
    formula = f"({top}){bottom} at the logits" if mean and variance else f"{top}{bottom} at the logits"
    return Switch(
        name="logits_norm",
        formula=formula,
        options=options,
        couples_batch=True,
        at_logits=lambda model, num_classes: LogitsNorm(model, num_classes, mean=mean, variance=variance),
    )


@final
class LogitsNorm(nn.Module):
    """A network whose logits are normalized over the batch; see `logits_norm`.

    Raises:
        TypeError: the network returns something other than a tensor.
        ValueError: the last axis of the logits is not that of the classes; a train-mode batch of one.
    """

    def __init__(self, model: nn.Module, num_classes: int, *, mean: bool, variance: bool) -> None:
        super().__init__()
        self.model = model
        row = Normalizer(
            name="logits_norm",
            formula="batch statistics at the logits",
            reference=_SOURCE,
            mean="batch" if mean else None,
            scale="batch" if variance else None,
            evaluation="running",
            elementwise_affine=False,
        )
        self.norm = row.site(num_classes, ndim=2)
        del self.norm.normalizer_site  # the network's sites are its normalizer's; probes by depth do not read this one

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run the network and normalize what it returns."""
        logits = self.model(*args, **kwargs)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"logits_norm takes a network that returns its logits as one tensor, got {type(logits).__name__}; "
                "wrap the network in one that does."
            )
        normalized: Tensor = self.norm(logits.flatten(0, -2))
        return normalized.reshape(logits.shape)
