"""The noise of a step of stochastic gradient descent: sampled, and beside it what the examples' gradients say."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from normscope import probes
from normscope.isolation import draw_seed, isolated
from normscope.probes.gradients import parameter_gradients
from normscope.probes.step import check_learning_rate, differentiable_stand_in, gradient_norm
from normscope.study import seeds
from normscope.study.building import cast, data_loss
from normscope.study.measuring import Scene


def gradient_noise(
    scene: Scene, model: nn.Module, step: int, *, examples: int, sizes: str, lrs: str, draws: int
) -> None:
    r"""Mean squared noise of a step, :math:`E \|\alpha g - \alpha g_B\|^2`, in eval mode, for each size B and rate α.

    "sampled" is the mean over so many minibatches drawn without replacement from the first `examples` of training, g
    being the gradient over all of these; `theory.gradient_noise` has its exact value and the bound α² C / B, and
    "variance" is C. The column `layer` holds the rate and `depth` the size.

    Raises:
        ValueError: a rate that is not positive and finite; a size as the probe refuses it.
    """
    for text in lrs.split():
        check_learning_rate(float(text))
    counts = tuple(int(size) for size in sizes.split())
    train = scene.dataset.train
    inputs = cast(train.inputs[:examples], scene.experiment)
    subject = probes.Subject(model, data_loss, (inputs, train.targets[:examples]))
    probe = probes.GradientNoise(lr=1.0, batch_sizes=counts, mode="eval")  # the rate is a factor
    reading = probe(subject, generator=scene.generator(step))
    variance, *of_unit_rate = reading.values.tolist()
    scene.rows.add("gradient_noise", "variance", variance[0], step=step)
    for place, text in enumerate(lrs.split()):
        square, generator = float(text) ** 2, seeds.generator(scene.experiment.seed, "probe", step, place)
        for name, noises in zip(reading.labels["quantity"][1:], of_unit_rate, strict=True):
            for size, noise in zip(counts, noises, strict=True):
                scene.rows.add("theory.gradient_noise", name, square * noise, step=step, layer=text, depth=size)
        for size, sampled in zip(counts, _sampled(subject, counts, draws, generator), strict=True):
            squares = square * sampled
            stderr = squares.std().item() / math.sqrt(draws) if draws > 1 else math.nan
            scene.rows.add(
                "gradient_noise", "sampled", squares.mean().item(), step=step, layer=text, depth=size, stderr=stderr
            )


def _sampled(subject: probes.Subject, sizes: tuple[int, ...], draws: int, generator: torch.Generator) -> list[Tensor]:
    """Squared distances of minibatch gradients from that of all examples: for each size (draws,), float64."""
    inputs, targets = subject.batch
    seed = draw_seed(generator)
    with isolated(subject, mode="eval", seed=seed):
        stand_in = differentiable_stand_in(subject)
        whole = parameter_gradients(stand_in, subject.batch, seed=seed)
        found = []
        for size in sizes:
            distances = []
            for _ in range(draws):
                rows = torch.randperm(len(targets), generator=generator)[:size].to(targets.device)
                part = parameter_gradients(stand_in, (inputs[rows], targets[rows]), seed=seed)
                distances.append(gradient_norm({name: part[name] - whole[name] for name in whole}) ** 2)
            found.append(torch.tensor(distances, dtype=torch.float64))
    return found
