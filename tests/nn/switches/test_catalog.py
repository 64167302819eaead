from __future__ import annotations

import pytest

from normscope.nn import switches

EXAMPLES = {
    "gradient_scale": {"k": 1.21},
    "batch_noise": {"samples": 128},
    "signed_relu": {},
    "normalized_affine": {},
    "tlu": {},
    "logits_norm": {},
    "variance_penalty": {"weight": 0.1},
    "noisy_batch_norm": {},
}


def test_the_table_holds_the_seven_of_the_appendix_and_noisy_batch_norm():
    assert switches.names() == tuple(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_switch_is_a_value_with_all_its_options(name):
    made = switches.switch(name, **EXAMPLES[name])
    assert made == switches.switch(name, **EXAMPLES[name])
    assert hash(made) == hash(switches.switch(name, **EXAMPLES[name]))
    assert made.name == name
    assert made.options.items() >= EXAMPLES[name].items()
    assert switches.switch(name, **made.options) == made
    assert made.formula


def test_options_tell_switches_apart():
    assert switches.switch("gradient_scale", k=1.1) != switches.switch("gradient_scale", k=1.2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradient_scal", {}, "Unknown switch 'gradient_scal'; did you mean gradient_scale"),
        ("xyzzy", {}, "Unknown switch 'xyzzy'; choose from gradient_scale, batch_noise"),
        ("gradient_scale", {"k": 1.0, "untill": 3}, "Unknown option 'untill' of gradient_scale; did you mean until"),
        ("tlu", {"tau": 0.0}, "Unknown option 'tau' of tlu; it has none"),
        ("tlu", {"name": "x"}, "Unknown option 'name' of tlu"),
        ("gradient_scale", {}, r"gradient_scale needs its option k; write switch\('gradient_scale', k=\.\.\.\)"),
        ("gradient_scale", {"k": float("nan")}, "Option k of gradient_scale must be a finite number, got nan"),
        ("gradient_scale", {"k": True}, "Option k of gradient_scale must be a finite number, got True"),
        ("gradient_scale", {"k": 1.0, "until": 0}, "Option until of gradient_scale must be an integer of at least 1"),
        ("batch_noise", {"samples": 0}, "Option samples of batch_noise must be an integer of at least 1, got 0"),
        ("batch_noise", {"samples": 2, "kind": "x"}, "Option kind of batch_noise must be one of scale_shift, shift"),
        ("batch_noise", {"samples": 2, "shared": 1}, "Option shared of batch_noise must be True or False, got 1"),
        ("signed_relu", {"kind": "sign"}, "Option kind of signed_relu must be one of random_sign, mean_shifted"),
        ("normalized_affine", {"kind": 3}, "Option kind of normalized_affine must be one of cosine, centered_cosine"),
        ("logits_norm", {"mean": False, "variance": False}, "got neither; turn one on"),
        ("logits_norm", {"mean": 1}, "Option mean of logits_norm must be True or False, got 1"),
        ("variance_penalty", {"weight": -1.0}, "Option weight of variance_penalty must be a finite number of at least"),
        ("noisy_batch_norm", {"scale": 0.9}, "Option scale of noisy_batch_norm must be a finite number of at least 1"),
        ("noisy_batch_norm", {"shift": -1}, "Option shift of noisy_batch_norm must be a finite number of at least 0"),
        ("noisy_batch_norm", {"sample_scale": "x"}, "Option sample_scale of noisy_batch_norm must be a finite number"),
    ],
)
def test_bad_names_and_options_are_refused_with_the_remedy(name, options, message):
    with pytest.raises(ValueError, match=message):
        switches.switch(name, **options)
