"""What is reconstructed or reduced, in the words that several items share.

Marks: [P] read in the paper's text or figures, [S] a secondary source, [M] remembered and found in no source, a hint
only, [D] derived. The authors of neither paper published code for these measurements.
"""

from __future__ import annotations

NETWORK = (
    "The paper's network is a 110-layer ResNet 'similar to the original' on CIFAR-10 [P]: three stages of 18 "
    "post-activation blocks, 16, 32 and 64 channels, batch 128. Xavier's initialization and projection shortcuts are "
    "inferred from Figure 5 [D]: He's would give deviations of 10^8 without batch norm, and padding would not reset "
    "the deviation at each stage."
)
PATIENT = (
    "A training has diverged where its loss is not finite or above 10^6: without batch norm the reconstructed "
    "ResNet-110 begins near the usual bound of 1,000."
)
LAYERS = (
    "Layers are counted along the branches, the stem being 1 and the readout the last [D]; where the paper's 'layer' "
    "has activations, it is the output of the residual block that holds it."
)
NO_BIAS = (
    "Without batch norm the convolutions have no bias: the same network less its normalization, at initialization the "
    "same as with biases of zero."
)
OWN_SIZE = (
    "laptop: the paper's own network and batch; the first 2,000 training images (an untrained network is shown 128 of "
    "them), {seeds} seeds."
)
HE = (
    "SGD with momentum 0.9 and weight decay 1e-4 on kernels, padded random crops and flips, the rate divided by ten at "
    "50 % and 75 % of the steps [M]; He et al.'s values, which the paper says it uses. No warm-up."
)
EPOCH = (
    "An epoch is 351 steps of 128 images here, the paper's 391 or so: 5,000 of the 50,000 training images are kept for "
    "validation."
)
LAPTOP_TRAINING = (
    "laptop: ResNet-{depth} instead of ResNet-110, {steps} steps of 128 images instead of 165 epochs (without batch "
    "norm 2,400), {images}, {seeds} seeds."
)
SANTURKAR = (
    "After Santurkar, Tsipras, Ilyas and Madry 2018, arXiv:1805.11604: at a step of training, on the batch that comes "
    "next, along the unnormalized gradient, in train mode [D]; nothing of it affects the training."
)
VGG = (
    "Santurkar et al. do not say which VGG [D]: convolutions of configuration A, one linear layer, Glorot's "
    "initialization; SGD without momentum or decay, batch 128, rate 0.1, no augmentation [P]."
)
DEEP_LINEAR = (
    "Deep linear network: 25 layers of 10 x 10, squared distance from a Gaussian map of 1,000 Gaussian vectors, full "
    "batch, 10,000 steps [P]. The loss is the mean over the vectors, so the paper's rate of 1e-6 on their sum is 1e-3 "
    "here [D]."
)
SMOKE = "smoke: built-in digits, the smallest networks, few steps: it shows that the item runs, and nothing more."
