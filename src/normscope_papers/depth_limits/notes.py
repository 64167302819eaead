"""What is reconstructed, reduced or added, in the words that several items share; marks as in the package."""

from __future__ import annotations

FLOAT64 = (
    "Everything is in float64: the paper's float32 overflows a sum of squares at a log norm of 44, which is most "
    "likely why its Figure 5 leaves out the deepest networks [D]."
)
RUNS = (
    "Each run has its own weights and its own batch [D]; the authors' code takes one batch for all runs [C]. Batches "
    "are of the first 2,000 training images, chosen in proportion to the classes."
)
LAPTOP = "laptop: the paper's sizes with 5 runs instead of 10."
SMOKE = "smoke: built-in digits, narrow and shallow networks, 2 runs: it shows that the item runs."
SECOND = (
    "The gradient is that by the second weight, the first square one, natural log of its Frobenius norm [C]; the loss "
    "is the mean cross-entropy of the batch."
)
ROOT = "The normalization is the paper's operator times √n, the default of the authors' code [C]."
ANCHORED = (
    "Dashed: theory's growth per layer, from the gradient measured at the last hidden layer back to the second: of the "
    "activation at its gain, ½ log χ(α) with χ = α² E[σ'(αz)²] / Var[σ(αz)], plus ½ log((n-1)/(n-2)) of Gaussian "
    "weights, (n-2)/(n-3) where the mean is subtracted. It is of infinite width and an orthogonal "
    "batch; nothing is fitted."
)
RANK = (
    "Dashed: theory's growth per layer on a batch of rank r, ½ log((r-1)(d-2)/((r-2)(d-1))), about ½(1/r - 1/d) [D], "
    "from the gradient measured at the last hidden layer back to the second; nothing is fitted."
)
TRAINING = (
    "Plain SGD without momentum and weight decay, rate 0.001, batches of 100, width 100, mean cross-entropy, no "
    "augmentation, float32 [C]; BatchNorm1d with gain, shift and running statistics, and biases [C]; gains l^-0.4, the "
    "first layer being 1 [C]; identity networks without gain."
)
LAPTOP_TRAINING = (
    "laptop: the first 5,000 training images, chosen in proportion to the classes, and 1,000 test images; rate 0.01 "
    "instead of 0.001; 3 runs where nothing else is said."
)
LAPTOP_EPOCHS = "laptop: 50 epochs of 50 steps instead of 1,000 of 450."
PAPER_TRAINING = (
    "paper: the validation images are cut from the training set, so an epoch has 450 steps (MNIST and Fashion MNIST "
    "540) and not 500 (600); 3 runs [G]."
)
SMOKE_TRAINING = "smoke: built-in digits, depths 3 to 12, width 16, 4 steps, 2 runs: it shows that the item runs."
SQUARE = "Weights are counted from 1 at the input, those shown are the square ones: from 2 to the depth."
PARTS = (
    "Not in the paper: the gradient times W^T is split into its symmetric and antisymmetric parts [D]. A step along "
    "the antisymmetric one keeps an orthogonal W orthogonal to first order."
)
EPOCHS = "Measured at so many epochs, on one batch or the first 1,000 images; train accuracy under batch statistics."
READ = "Read from the figure by eye."
BATCHES = "The paper takes one batch for all runs, ours one for each; which images is not said."
