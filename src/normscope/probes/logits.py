"""The gradient by the network's outputs: what the loss asks of every example's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn

from normscope.isolation import Mode, StandIn, copies, draw_seed
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.subject import Batch, Subject

Statistic: TypeAlias = Literal["gradient", "similarity"]


@final
@dataclass(frozen=True, kw_only=True)
class LogitGradients(Probe):
    r"""Gradient of the loss by the outputs, example by example and class by class, or how alike its rows are.

    .. math:: G_{b,c} = \frac{\partial L}{\partial z_{b,c}}, \qquad
              \text{for the mean cross-entropy of softmax } p \text{: } \; G_{b,c} = \frac{p_{b,c} - 1[c = y_b]}{N},

    whose rows sum to 0 and are negative at the label alone. Where a network predicts one class whatever the input, that
    class's column is about 1/N and all else about 0, labels excepted. The similarity is the mean cosine of two
    different rows,

    .. math:: \frac{1}{n (n - 1)} \sum_{b \ne b'} \frac{\langle G_b, G_{b'} \rangle}{\|G_b\| \|G_{b'}\|},

    over the n rows that are not zero (those of targets that do not count are).

    Args:
        statistic: "gradient" or "similarity".
        mode: "train" or "eval".

    Returns:
        Reading "logit_gradients". The gradient has axes ("example", "class"), the examples (the tokens, of sequences)
        of all batches one after the other, and no standard error; the similarity has no axes, and standard errors over
        batches, NaN where n is less than 2. One forward pass per batch; no gradient of the network is taken.

    Raises:
        ValueError: the outputs are not one floating-point tensor (*, classes), or the loss does not depend on them.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, figure 6.
    """

    statistic: Statistic = "gradient"
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("statistic", self.statistic, get_args(Statistic))
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing that can be seen before the outputs are."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        rows = [_rows(stand_in, batch, seed=draw_seed(generator)) for batch in subject.batches()]
        if self.statistic == "similarity":
            values, stderr = mean_over_batches([_mean_cosine(gradient) for gradient in rows])
            return Reading(name="logit_gradients", unit="1", axes=(), values=values, stderr=stderr, labels={})
        values = torch.cat(rows)
        labels = {"example": _numbers(values.shape[0]), "class": _numbers(values.shape[1])}
        return Reading(name="logit_gradients", unit="1", axes=("example", "class"), values=values, labels=labels)


def _rows(stand_in: StandIn, batch: Batch, *, seed: int) -> Tensor:
    """The gradient by the outputs of one batch: (rows, classes), float64 on the CPU."""
    inputs, targets = batch

    def work(model: nn.Module) -> Tensor:
        outputs = stand_in.outputs(model, inputs)
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point() or outputs.ndim < 2:
            shaped = f"{outputs.dtype} of {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else ""
            raise ValueError(
                "Gradients by the outputs are taken where these are one floating-point tensor (*, classes), but "
                f"{shaped or type(outputs).__name__} arrived. Let forward=lambda model, inputs: ... return them so."
            )
        leaf = outputs.detach().clone().requires_grad_()
        loss = stand_in.subject.loss_of(leaf.clone(), copies(targets))  # a loss may write to the outputs
        if not loss.requires_grad:
            raise ValueError(
                "A gradient by the outputs needs a loss that depends on them, but this one does not. "
                "Remove detach(), .item() or no_grad from loss_fn."
            )
        return torch.autograd.grad(loss, leaf)[0]

    return stand_in.run(work, seed=seed).flatten(0, -2).double().cpu()


def _mean_cosine(rows: Tensor) -> Tensor:
    """Mean cosine of two different rows (n, classes), rows of zeros left out: 0-dim; NaN for fewer than two."""
    norms = rows.norm(dim=1, keepdim=True)
    units = (rows / norms)[norms.squeeze(1) != 0]
    n = len(units)
    # The sum over all pairs, of which n are a row with itself.
    return (units.sum(0).square().sum() - n) / (n * (n - 1)) if n > 1 else torch.tensor(torch.nan, dtype=rows.dtype)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
