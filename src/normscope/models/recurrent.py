"""Long short-term memory and gated recurrent units with the normalizer at every affine layer of every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from normscope.models.building import embedding, linear, require_positive
from normscope.models.protocol import NormalizerLike, require_normalizer

Cell: TypeAlias = Literal["lstm", "gru"]


class Recurrent(nn.Module):
    r"""Recurrent layers over the steps of a sequence, then a linear readout.

    Shape: (N, T, in_features) floating point, or images (N, C, H, W) read row by row, H steps of C W = in_features
    numbers each; (N, num_classes) out, from the last step. With a `vocabulary`: (N, T) int64 tokens in, each embedded
    in in_features numbers, and (N, T, num_classes) out, where no output depends on a later token.

    The input's and the state's contribution are normalized each on its own, see `LSTM` and `GRU`. PreLayerNorm
    therefore subtracts from x_t and from h_{t-1} its mean over features, and divides each affine output by its
    standard deviation, at every step. A site is one module used at every step: a row that couples the batch takes the
    statistics of one step over N, and its running statistics are one average over all steps (Cooijmans et al. 2017,
    arXiv:1603.09025, keep one per step). The penalty of a penalized site is counted at every step
    (`normscope.nn.Penalised`; `normscope.penalty` refuses), and probes read each step as `name`, `name#2`, ...
    The first step has no state before it, so the state's sites run T - 1 times (a state of zeros has no scale).

    Affine weights are drawn from N(0, 1 / fan_in), embeddings from N(0, 1); biases are zero, except those of the
    LSTM's forget gate, which are 1. The weights depend on the generator alone, so two normalizers given equal
    generators start from the same network. The affine layer of the input runs once for all steps.
    Reference: Ba, Kiros and Hinton 2016, arXiv:1607.06450; Rao and Sohl-Dickstein 2020, arXiv:2010.10687, claim
    recurrent networks among PreLayerNorm's uses and give neither architecture nor numbers, so that this comparison is
    a reconstruction.

    Args:
        in_features: numbers of one step.
        num_classes: outputs.
        cell: "lstm" or "gru".
        hidden: features of the state.
        layers: recurrent layers, one upon the other.
        vocabulary: number of tokens; None for inputs that are numbers.
        normalizer: asked for every site and every affine layer, the readout included.
        generator: of the weights; the global random state is not used.

    Raises:
        ValueError: a size is not a positive integer, an unknown cell; an input of another shape or dtype, or without
            a step, arrives.
        TypeError: `normalizer` is not one.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        cell: Cell = "lstm",
        hidden: int = 128,
        layers: int = 1,
        vocabulary: int | None = None,
        normalizer: NormalizerLike,
        generator: torch.Generator,
    ) -> None:
        require_positive(hidden=hidden, layers=layers, in_features=in_features, num_classes=num_classes)
        if cell not in _CELLS:
            raise ValueError(f"cell must be one of {', '.join(_CELLS)}, got {cell!r}.")
        if vocabulary is not None:
            require_positive(vocabulary=vocabulary)
        require_normalizer(normalizer)
        super().__init__()
        self.in_features = in_features
        self.embedding = None if vocabulary is None else embedding(vocabulary, in_features, generator=generator)
        self.layers = nn.ModuleList(
            _CELLS[cell](fan_in, hidden, normalizer=normalizer, generator=generator)
            for fan_in in (in_features, *[hidden] * (layers - 1))
        )
        self.readout = normalizer.affine(linear(hidden, num_classes, gain="linear", bias=True, generator=generator))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        steps = self._numbers(x) if self.embedding is None else self._embedded(x)  # (T, N, in_features)
        for layer in self.layers:
            steps = layer(steps)  # (T, N, hidden)
        return self.readout(steps[-1] if self.embedding is None else steps.transpose(0, 1))  # type: ignore[no-any-return]

    def _numbers(self, x: Tensor) -> Tensor:
        steps = x.permute(2, 0, 1, 3).flatten(2) if x.ndim == 4 else x.transpose(0, 1) if x.ndim == 3 else None
        if steps is None or not steps.is_floating_point() or not len(steps) or steps.shape[2] != self.in_features:
            raise ValueError(
                f"This Recurrent takes numbers of shape (N, T, {self.in_features}) or images of {self.in_features} "
                f"numbers a row, with at least one step, got {x.dtype} of shape {tuple(x.shape)}. Build it with the "
                "in_features of your data, or for tokens with their vocabulary."
            )
        return steps

    def _embedded(self, tokens: Tensor) -> Tensor:
        assert self.embedding is not None
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or not tokens.shape[1]:
            raise ValueError(
                "This Recurrent takes int64 tokens of shape (N, T), with at least one step, got "
                f"{tokens.dtype} of shape {tuple(tokens.shape)}. Build it without vocabulary for numbers."
            )
        return self.embedding(tokens.transpose(0, 1))  # type: ignore[no-any-return]


class LSTM(nn.Module):
    r"""Long short-term memory: (T, N, in_features) -> (T, N, hidden), the state h at every step.

    .. math::
        (i, f, g, o) = N_x(W_x x_t) + N_h(W_h h_{t-1}) + b,\quad
        c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g),\quad h_t = \sigma(o) \tanh(N_c(c_t))

    with h and c zero before the first step, at which the term of h is left out. With normalizer `none` this is
    `nn.LSTM`, whose two biases are one here.
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, equations 20 to 22; forget bias of 1: Jozefowicz et al. 2015,
    "An empirical exploration of recurrent network architectures".
    """

    def __init__(
        self, in_features: int, hidden: int, *, normalizer: NormalizerLike, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.input = _affine(in_features, 4 * hidden, normalizer, generator)
        self.state = _affine(hidden, 4 * hidden, normalizer, generator)
        self.input_norm = normalizer.site(4 * hidden, ndim=2)
        self.state_norm = normalizer.site(4 * hidden, ndim=2)
        self.cell_norm = normalizer.site(hidden, ndim=2)
        bias = torch.zeros(4, hidden, device=generator.device)
        bias[1] = 1.0  # f
        self.bias = nn.Parameter(bias.flatten())

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        states: list[Tensor] = []
        cell: Tensor | None = None
        for step in self.input(x).unbind():
            gates = self.input_norm(step) + self.bias  # (N, 4 hidden)
            if states:
                gates = gates + self.state_norm(self.state(states[-1]))
            i, f, g, o = gates.chunk(4, dim=1)
            new = i.sigmoid() * g.tanh()
            cell = new if cell is None else f.sigmoid() * cell + new
            states.append(o.sigmoid() * self.cell_norm(cell).tanh())
        return torch.stack(states)


class GRU(nn.Module):
    r"""Gated recurrent unit: (T, N, in_features) -> (T, N, hidden), the state h at every step.

    .. math::
        (r, z) = \sigma(N_x(W_x x_t) + N_h(W_h h_{t-1}) + b),\quad
        n = \tanh(N_u(U_x x_t) + b_n + r (N_v(U_h h_{t-1}) + b_h)),\quad h_t = (1 - z) n + z h_{t-1}

    with h zero before the first step, at which both terms N(W h) are left out. With normalizer `none` this is `nn.GRU`,
    whose two biases of r and z are one here.
    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450, equations 26 to 29 (where 1 - z stands for z).
    """

    def __init__(
        self, in_features: int, hidden: int, *, normalizer: NormalizerLike, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.input_gates = _affine(in_features, 2 * hidden, normalizer, generator)
        self.state_gates = _affine(hidden, 2 * hidden, normalizer, generator)
        self.input_candidate = _affine(in_features, hidden, normalizer, generator)
        self.state_candidate = _affine(hidden, hidden, normalizer, generator)
        self.input_gates_norm = normalizer.site(2 * hidden, ndim=2)
        self.state_gates_norm = normalizer.site(2 * hidden, ndim=2)
        self.input_candidate_norm = normalizer.site(hidden, ndim=2)
        self.state_candidate_norm = normalizer.site(hidden, ndim=2)
        self.bias_gates = nn.Parameter(torch.zeros(2 * hidden, device=generator.device))
        self.bias_candidate = nn.Parameter(torch.zeros(hidden, device=generator.device))
        self.bias_state = nn.Parameter(torch.zeros(hidden, device=generator.device))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        states: list[Tensor] = []
        for step_gates, step_candidate in zip(
            self.input_gates(x).unbind(), self.input_candidate(x).unbind(), strict=True
        ):
            gates = self.input_gates_norm(step_gates) + self.bias_gates  # (N, 2 hidden)
            inner = self.bias_state
            if states:
                gates = gates + self.state_gates_norm(self.state_gates(states[-1]))
                inner = inner + self.state_candidate_norm(self.state_candidate(states[-1]))
            r, z = gates.sigmoid().chunk(2, dim=1)
            new = torch.tanh(self.input_candidate_norm(step_candidate) + self.bias_candidate + r * inner)
            states.append((1 - z) * new + z * states[-1] if states else (1 - z) * new)
        return torch.stack(states)


_CELLS: dict[str, Callable[..., LSTM | GRU]] = {"lstm": LSTM, "gru": GRU}


def _affine(in_features: int, out_features: int, normalizer: NormalizerLike, generator: torch.Generator) -> nn.Linear:
    # Without a bias: it stands after normalization, as in the source.
    return normalizer.affine(linear(in_features, out_features, gain="linear", bias=False, generator=generator))
