"""Appendix A's failed experiments, each a switch on a batch-free baseline, beside the baseline as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normscope.study import Experiment, Item, Measurement, Norm, Switch
from normscope_papers.common.drawing import no_figures
from normscope_papers.common.experiments import Stages, evaluated, measured, named, searched, switch
from normscope_papers.is_batch_norm_unique import figures, notes, tables
from normscope_papers.is_batch_norm_unique.training import LAPTOP, PAPER, SMOKE, WideTraining

PLAIN = "plain"
"""Condition of the baseline: the same network and training without the switch."""

Variants = Mapping[str, tuple[Switch, ...]]


def _compared(
    variants: Variants, setting: WideTraining, *measurements: Measurement, beside: tuple[Experiment, ...] = ()
) -> Stages:
    """Every normalizer with every variant, and what is trained beside them, each at its own best rate."""
    trainings = [
        setting.training(norm, condition=condition, switches=switches)
        for norm in setting.norms
        for condition, switches in variants.items()
    ]
    trainings += beside
    ends = (evaluated(setting.steps), evaluated(setting.steps, split="test"))
    return searched(trainings, lrs=setting.lrs, seeds=setting.seeds, measurements=(*ends, *measurements))


def gradient_scale(*, factors: tuple[float, ...], until: int | None, **fields: Any) -> Stages:
    """App.9 and App.10: gradients times k at every site, for good or going to 1 within the first steps."""
    variants = {f"k={k:g}": (switch("gradient_scale", k=k, until=until),) for k in factors}
    return _compared(variants, WideTraining(**fields))


def batch_noise(*, samples: tuple[int, ...], kinds: tuple[str, ...], shared: bool, **fields: Any) -> Stages:
    """Noise after normalization of the size that batch statistics of so many samples have."""
    variants: dict[str, tuple[Switch, ...]] = {PLAIN: ()}
    for kind in kinds:
        for count in samples:
            noise = switch("batch_noise", samples=count, kind=kind, shared=shared)
            variants[f"{kind}, {count} samples"] = (noise,)
    return _compared(variants, WideTraining(**fields))


def chaos(*, signed_relus: tuple[str, ...], affines: tuple[str, ...], tlu: bool, noise: float, **fields: Any) -> Stages:
    """Activations and affine operations meant to make the network chaotic."""
    variants: dict[str, tuple[Switch, ...]] = {PLAIN: ()}
    variants |= {f"signed_relu {kind}": (switch("signed_relu", kind=kind),) for kind in signed_relus}
    variants |= {f"affine {kind}": (switch("normalized_affine", kind=kind),) for kind in affines}
    variants |= {"tlu": (switch("tlu"),)} if tlu else {}
    at_start = measured("information_propagation", 0, noise=noise)
    return _compared(variants, WideTraining(**fields), at_start)


def logits(*, variants: tuple[str, ...], beside: tuple[Norm, ...], examples: int, **fields: Any) -> Stages:
    """Batch statistics at the logits alone: mean, variance, both; beside batch norm in every layer."""
    setting = WideTraining(**fields)
    unknown = [name for name in variants if name not in _LOGITS]
    if unknown:
        raise ValueError(f"variants must be among {', '.join(_LOGITS)}, got {unknown[0]!r}.")
    conditions: Variants = {PLAIN: (), **{name: (_LOGITS[name],) for name in variants}}
    sharpness = measured("sharpness", setting.steps, examples=examples)
    yardsticks = tuple(setting.training(norm, condition=PLAIN) for norm in beside)
    return _compared(conditions, setting, sharpness, beside=yardsticks)


_LOGITS = {
    "mean": switch("logits_norm", mean=True, variance=False),
    "variance": switch("logits_norm", mean=False, variance=True),
    "both": switch("logits_norm", mean=True, variance=True),
}


def variance(*, weights: tuple[float, ...], **fields: Any) -> Stages:
    """Penalties on batch mean and batch variance in place of normalization; beside RegNorm and no normalization."""
    setting = WideTraining(**fields)
    instead = tuple(
        setting.training(
            Norm("none"),
            condition=f"variance penalty {weight:g}",
            switches=(switch("variance_penalty", weight=weight),),
        )
        for weight in weights
    )
    return _compared({PLAIN: ()}, setting, beside=instead)


_BASELINES = named("layernorm", "prelayernorm", "regnorm")
_SMOKE = SMOKE | {"norms": named("layernorm")}
_LAPTOP = LAPTOP | {"depth": 14, "steps": 300, "lrs": (0.03, 0.1), "max_eval": 2000}
_PAPER = PAPER | {"norms": _BASELINES}
_FACTORS = (0.8, 0.9, 1.0, 1.1, 1.21, 1.3)
_NOISE = {"samples": (64,), "kinds": ("scale_shift", "shift"), "shared": True}
_CHAOS = {
    "signed_relus": ("random_sign", "mean_shifted"),
    "affines": ("cosine", "centered_cosine", "weight_standardization"),
    "tlu": True,
    "noise": 0.1,
}
_NOTES = (
    "Protocol [D]: the device is added to batch-free baselines and compared with them, each at its own best rate. A "
    "gain is that of the variant which validation accuracy chooses, in test accuracy.",
    notes.TRAINING,
    notes.PENALTY_WEIGHT,
    notes.LAPTOP_TRAINING
    + " 14 layers instead of 26, 300 steps instead of 1,000, rates 0.03 and 0.1, 2,000 test images.",
)
_FACTOR_NOTE = (
    "Where the factor stands is reconstructed: behind each normalizer site, so that the gradient l sites below the "
    "last has k to the l. The factors are a guess [G]; 1.21 is batch norm's own, the root of pi / (pi - 1)."
)

ITEMS = (
    Item(
        name="app9",
        title="Accuracy against a fixed factor on the gradient at each layer",
        source="Figure App.9",
        fields={
            "smoke": _SMOKE | {"factors": (1.0, 1.21), "until": None},
            "laptop": _LAPTOP | {"norms": named("layernorm", "prelayernorm"), "factors": _FACTORS, "until": None},
            "paper": _PAPER | {"factors": _FACTORS, "until": None},
        },
        study=gradient_scale,
        figures=figures.gradient_factors,
        notes=(*_NOTES, _FACTOR_NOTE, notes.SMOKE),
    ),
    Item(
        name="app10",
        title="Accuracy against a factor on the gradient that goes to 1 within 50 steps",
        source="Figure App.10",
        fields={
            "smoke": _SMOKE | {"factors": (1.0, 1.21), "until": 2},
            "laptop": _LAPTOP | {"norms": named("layernorm", "prelayernorm"), "factors": _FACTORS, "until": 50},
            "paper": _PAPER | {"factors": _FACTORS, "until": 50},
        },
        study=gradient_scale,
        figures=figures.gradient_factors,
        notes=(*_NOTES, _FACTOR_NOTE, "The factor is 1 + (k - 1) max(0, 1 - t / 50) at step t.", notes.SMOKE),
    ),
    Item(
        name="batch-noise",
        title="Simulated batch noise after normalization",
        source="Appendix A, simulating batch noise",
        fields={
            "smoke": _SMOKE | _NOISE | {"kinds": ("scale_shift",)},
            "laptop": _LAPTOP | _NOISE | {"norms": _BASELINES},
            "paper": _PAPER | _NOISE | {"samples": (32, 256)},
        },
        study=batch_noise,
        figures=no_figures,
        tables=tables.variants,
        notes=(
            *_NOTES,
            "The formula is lost [D]: per channel and step, (1 + a) z + b with the variances 1/2M and 1/M that M "
            "Gaussian samples give ('scale_shift'), or b alone ('shift'); one seed through the network [P].",
            notes.SMOKE,
        ),
    ),
    Item(
        name="chaos",
        title="Artificial chaos: signed ReLU, normalized affine operations, thresholded linear units",
        source="Appendix A, artificial chaos",
        fields={
            "smoke": _SMOKE | _CHAOS,
            "laptop": _LAPTOP | _CHAOS | {"norms": named("layernorm", "regnorm")},
            "paper": _PAPER | _CHAOS,
        },
        study=chaos,
        figures=figures.chaos,
        tables=tables.variants,
        notes=(
            *_NOTES,
            "The formulas of signed ReLU and of the normalized affine operation are lost [G]: two and three readings.",
            "In mean-field theory random signs and cosine are not chaotic, the others are; the figure shows which are.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="logits",
        title="Batch statistics at the final logits only",
        source="Appendix A, targeting Hessian conditioning",
        fields={
            "smoke": _SMOKE | {"norms": named("none"), "variants": ("both",), "beside": (), "examples": 16},
            "laptop": _LAPTOP
            | {
                "norms": named("none", "layernorm"),
                "variants": tuple(_LOGITS),
                "beside": named("batchnorm"),
                "examples": 128,
            },
            "paper": _PAPER
            | {
                "norms": named("none", "layernorm"),
                "variants": tuple(_LOGITS),
                "beside": named("batchnorm"),
                "examples": 512,
            },
        },
        study=logits,
        figures=no_figures,
        tables=tables.conditioning,
        notes=(
            *_NOTES,
            "The rest of the network is un-normalized or has Layer Norm [D]; running statistics at test.",
            "laptop: the Hessian of 128 images instead of 512, at the end of training.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="variance",
        title="RegNorm with a second penalty that makes normalization dispensable",
        source="Appendix A, regularized learning of variance",
        fields={
            "smoke": _SMOKE | {"norms": named("regnorm"), "weights": (1.0,)},
            "laptop": _LAPTOP | {"norms": named("none", "regnorm"), "weights": (0.1, 1.0)},
            "paper": _PAPER | {"norms": named("none", "regnorm"), "weights": (0.01, 0.1, 1.0)},
        },
        study=variance,
        figures=no_figures,
        tables=tables.variants,
        notes=(
            *_NOTES,
            "The second penalty is lost [D]: the mean over neurons of (batch variance - 1) squared, of un-normalized "
            "values, with RegNorm's penalty of the same values.",
            notes.SMOKE,
        ),
    ),
)
