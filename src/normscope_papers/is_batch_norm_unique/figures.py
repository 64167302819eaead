"""The paper's figures as specifications: from the rows of an item's run to panels, axes and lines."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from normscope.report import ABOUT_LOG_STEPS, LOG_STEP, Axis, Figure, Panel, spectral_densities
from normscope.study import Study
from normscope_papers.common import drawing as d
from normscope_papers.common.rows import at_chosen_rate, final_values, last, pick
from normscope_papers.is_batch_norm_unique import drawing

if TYPE_CHECKING:
    import pandas as pd

Figures = tuple[Figure, ...]


def dense(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 1: correlation of activations and of gradients by layer, and the gradient norm beside them."""
    similar = pick(frame, probe="gradient_correlation", name="similar")
    independent = pick(frame, probe="gradient_correlation", name="independent")
    return d.figure(
        study,
        "Correlation by depth at initialization, dense ReLU network",
        f"{drawing.SIMILAR} Gradients are those of an affine layer's weights for such a pair with the same labels, and "
        f"for two batches that share no example. {d.spread(frame)} {drawing.THEORY}",
        [
            drawing.propagation("(a) activations", frame, study),
            d.panel("(b) gradients, similar batches", drawing.LAYER, drawing.CORRELATION, similar, study),
            d.panel("gradients, independent batches", drawing.LAYER, drawing.CORRELATION, independent, study),
            drawing.gradient_norm("gradient norm (not in the paper's figure)", frame, study),
        ],
    )


def without_skips(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 2: correlation and gradient norm by layer."""
    return d.figure(
        study,
        "Correlation and gradient norm by depth at initialization, no skips",
        f"{drawing.SIMILAR} {drawing.OF_OUTPUT} {d.spread(frame)} {drawing.THEORY}",
        [
            drawing.propagation("(a) activations", frame, study),
            drawing.gradient_norm("(b) gradient norm", frame, study),
        ],
    )


def propagation_with_skips(frame: pd.DataFrame, study: Study) -> Figures:
    """App.1: correlation by layer, with skip connections."""
    title = "Correlation by depth at initialization, with skips"
    return d.figure(
        study, title, f"{drawing.SIMILAR} {d.spread(frame)}", [drawing.propagation("(a) activations", frame, study)]
    )


def gradient_norm_with_skips(frame: pd.DataFrame, study: Study) -> Figures:
    """App.2: gradient norm by layer, with skip connections."""
    title = "Gradient norm by depth at initialization, with skips"
    return d.figure(study, title, f"{drawing.OF_OUTPUT} {d.spread(frame)}", [drawing.gradient_norm("", frame, study)])


def early_training(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 3: four panels against the step."""
    rows = at_chosen_rate(frame, study.item)
    similar = pick(rows, probe="gradient_correlation", name="similar")
    independent = pick(rows, probe="gradient_correlation", name="independent")
    norms = pick(rows, probe="gradient_norm", name="norm")
    return d.figure(
        study,
        "Early training",
        "Each normalizer at the learning rate that validation accuracy chose. Test accuracy; correlation of the "
        "outputs of the last normalizer site for a batch and its noisy copy; of the gradients of all affine parameters "
        "together for such a pair and for independent batches; norm of the gradient with respect to the outputs of the "
        f"first and the last site. The batches stay the same throughout. {ABOUT_LOG_STEPS} {d.spread(rows)}",
        [
            drawing.by_step(
                "(a) test accuracy", drawing.ACCURACY, pick(rows, probe="evaluation", name="test_accuracy"), study
            ),
            drawing.by_step("(b) final layer", drawing.CORRELATION, pick(rows, probe="information_propagation"), study),
            drawing.by_step("(c) gradients, similar batches", drawing.CORRELATION, similar, study),
            drawing.by_step("gradients, independent batches", drawing.CORRELATION, independent, study),
            drawing.by_step("(d) gradient norm, first site", drawing.NORM, pick(norms, depth=1), study),
            drawing.by_step("(d) gradient norm, last site", drawing.NORM, last(norms, "depth"), study),
        ],
    )


def spectra(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 4 and App.5: density of eigenvalues at each step that has one, for the first seed."""
    rows = at_chosen_rate(frame, study.item)
    if rows.empty:
        return ()
    first = pick(rows, seed=int(rows["seed"].min()))
    rates = sorted(first["lr"].dropna().unique().tolist())
    examples = next(
        measurement.options["examples"]
        for measurement in drawing.measurements(study)
        if measurement.probe == "spectrum"
    )
    recipe = d.recipe(study, first) | {"lrs": rates, "curvature_examples": examples}
    found = spectral_densities(first, recipe)
    return tuple(dataclasses.replace(figure, name=f"{study.item}_{figure.name}") for figure in found)


def sharpness(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 6: the ratio of the largest eigenvalue to the tenth, the largest, and the most negative."""
    rows = at_chosen_rate(frame, study.item)
    rows = pick(rows, probe="sharpness").dropna(subset="value")
    negative = pick(rows, name="lambda_min")
    negative = negative[negative["value"] < 0].assign(value=lambda found: -found["value"])
    panels = [
        ("(a) λ₁/λ₁₀", Axis("λ₁/λ₁₀", log=True), pick(rows, name="lambda_ratio")),
        ("(b) largest eigenvalue", Axis("λ₁", log=True), pick(rows, name="lambda_max")),
        ("most negative eigenvalue", Axis("−λ_min", log=True), negative),
    ]
    return d.figure(
        study,
        "Largest eigenvalues of the Hessian through training",
        "The Hessian of the mean cross-entropy of training images as one batch in train mode, without penalty and "
        f"weight decay, dropout off. The ratio is drawn where both have converged. {ABOUT_LOG_STEPS} "
        f"{d.spread(rows, log=True)}",
        [drawing.by_step(title, axis, own, study) for title, axis, own in panels],
    )


def batch_size(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 5: accuracy under the statistics of test batches against their size, one panel per training batch.

    Level lines: the same networks with running statistics; networks without batch dependence.
    """
    import pandas as pd

    rows = at_chosen_rate(frame, study.item)
    trained = pick(rows, kind="train")
    axis = Axis("size of test batches", log=True)
    by_size = pick(trained, probe="batch_size_accuracy", name="test_accuracy")
    running = final_values(trained, "test_accuracy")
    coupled = running["normalizer"].isin(by_size["normalizer"])
    named = running.assign(normalizer=running["normalizer"].where(~coupled, running["normalizer"] + ", running"))
    panels = []
    for condition, own in by_size.groupby("condition", sort=False):
        drawn = pd.concat([own, drawing.level(pick(named, condition=condition), own)])
        panels.append(Panel(str(condition), axis, drawing.ACCURACY, d.drawn(drawn, study, "depth", drawing.ACCURACY)))
    at_start = pick(rows, kind="init", probe="information_propagation")
    panels += [
        d.panel(f"correlation at initialization, {condition}", drawing.SITE, drawing.CORRELATION, own, study)
        for condition, own in at_start.groupby("condition", sort=False)
    ]
    return d.figure(
        study,
        "Test accuracy against the size of test batches",
        "Accuracy with the statistics of random test batches of each size. 'Running' is the same network with the "
        "running statistics of training. Rows without batch dependence are level. Last panels: correlation by depth "
        f"of the untrained network without skips, by the size of the batch. {d.spread(rows)}",
        panels,
    )


def penalty(frame: pd.DataFrame, study: Study) -> Figures:
    """App.11: R against the step, its mean over sites, at the first and at the last site; with its sampling floor."""
    rows = pick(at_chosen_rate(frame, study.item), probe="penalty")
    by_site, axis = pick(rows, name="R"), Axis("R", log=True, bounds=(1e-3, 1.0))
    floor = drawing.common(pick(rows, name="floor"), study)

    def with_floor(title: str, own: pd.DataFrame) -> Panel:
        return Panel(title, LOG_STEP, axis, (*d.drawn(own, study, "step", axis), *floor))

    panels = [
        with_floor("mean over sites", by_site),
        with_floor("first site", pick(by_site, depth=1)),
        with_floor("last site", last(by_site, "depth")),
    ]
    return d.figure(
        study,
        "RegNorm's penalty through training",
        "R is the mean over neurons of the squared batch mean, after normalization and before gain and shift. Grey "
        "dashed: 1/N, what N examples give on average where the mean is 0. "
        f"{ABOUT_LOG_STEPS} {d.spread(rows, log=True)}",
        panels,
        theory="1/N, the sampling floor",
    )


def minimized(frame: pd.DataFrame, study: Study) -> Figures:
    """Section 3.2: correlation by depth before and after the penalty was minimized, beside the two rows it links.

    After, there is a panel for each rate; before, all of them are the same network.
    """
    import pandas as pd

    rows = pick(at_chosen_rate(frame, study.item), probe=["information_propagation", "theory.information_propagation"])
    beside, trained = pick(rows, kind="init"), pick(rows, kind="train")
    by_rate = {f"after minimizing R, {rate}": own for rate, own in trained.groupby("condition", sort=False)}
    before = pick(trained, step=0, condition=trained["condition"].unique().tolist()[:1])
    ends = {"before minimizing": before, **{title: last(own, "step") for title, own in by_rate.items()}}
    panels = [drawing.propagation(title, pd.concat([beside, own]), study) for title, own in ends.items()]
    falling = pick(at_chosen_rate(frame, study.item), probe="penalty", name="R")
    named = falling.assign(normalizer=falling["normalizer"] + ", " + falling["condition"])
    panels.append(drawing.by_step("R, mean over sites", Axis("R", log=True), named, study))
    return d.figure(
        study,
        "Propagation before and after RegNorm's penalty is minimized",
        f"{drawing.SIMILAR} {ABOUT_LOG_STEPS} {d.spread(rows)} {drawing.THEORY}",
        panels,
    )


def recurrent(frame: pd.DataFrame, study: Study) -> Figures:
    """Test accuracy against the step, one panel per cell."""
    rows = pick(at_chosen_rate(frame, study.item), probe="evaluation", name="test_accuracy")
    panels = [
        drawing.by_step(str(cell), drawing.ACCURACY, own, study) for cell, own in rows.groupby("condition", sort=False)
    ]
    caption = f"Each at its best learning rate. {ABOUT_LOG_STEPS} {d.spread(rows)}"
    return d.figure(study, "Recurrent networks", caption, panels)


def gradient_factors(frame: pd.DataFrame, study: Study) -> Figures:
    """App.9 and App.10: final test accuracy against the factor on the gradient."""
    values = final_values(at_chosen_rate(frame, study.item), "test_accuracy")
    factors = values["condition"].str.removeprefix("k=").astype(float)
    axis = Axis("factor k on the gradient at each site")
    panel = Panel("", axis, drawing.ACCURACY, d.drawn(values.assign(depth=factors), study, "depth", drawing.ACCURACY))
    caption = (
        f"Final test accuracy, each factor at its own best learning rate; k = 1 is the default. {d.spread(values)}"
    )
    return d.figure(study, "Accuracy against an artificial gradient factor", caption, [panel])


def chaos(frame: pd.DataFrame, study: Study) -> Figures:
    """Correlation by depth at initialization under each change of activation or affine operation."""
    rows = pick(at_chosen_rate(frame, study.item), probe="information_propagation", name="correlation", step=0)
    panels = [
        d.panel(str(condition), drawing.SITE, drawing.CORRELATION, own, study)
        for condition, own in rows.groupby("condition", sort=False)
    ]
    caption = f"At initialization, one panel per variant. {drawing.SIMILAR} {d.spread(rows)}"
    return d.figure(study, "Artificial chaos: correlation by depth", caption, panels)
