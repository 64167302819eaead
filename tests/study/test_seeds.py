from __future__ import annotations

import itertools

import torch

from normscope.study.seeds import derive, generator


def test_a_seed_and_purpose_always_give_the_same_generator():
    assert derive(0, "init") == 3598610026517748695  # records made by earlier versions can be made again
    assert torch.equal(torch.rand(5, generator=generator(3, "data")), torch.rand(5, generator=generator(3, "data")))


def test_purposes_seeds_and_steps_never_share_a_generator():
    seeds = [derive(s, p, *i) for s, p, i in itertools.product(range(20), ("init", "data", "probe"), ((), (0,), (1,)))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
