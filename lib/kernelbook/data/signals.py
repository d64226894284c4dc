"""Signals of one dimension."""

import numpy as np
import torch


def mnist1d(n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """MNIST-1D: templates of the ten digits, stretched, moved, sheared and noised.  Signals (n, 40) float32, labels (n,) int64.

    n: a multiple of 10, a tenth of each digit, in random order.  The signals together have mean 0 and standard deviation 1.
    rng: decides everything; NumPy's global state, which the generator of the package seeds, is put back.
    Raises ValueError for another n.
    Source: Greydanus (2020), the generator of the package mnist1d with its own parameters.
    """
    if not isinstance(n, int) or n < 10 or n % 10:
        raise ValueError(f"n={n!r}: expected a multiple of 10, from 10 upwards")
    import random

    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    args.num_samples, args.seed = n, int(rng.integers(2**31))
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        made = make_dataset(args)
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
    X, y = (np.concatenate([made[k], made[k + "_test"]]) for k in "xy")
    return torch.from_numpy(X).float(), torch.from_numpy(y).long()
