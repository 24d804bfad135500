"""Small implementations of encoders, with the names that their published checkpoints bear.

They are written from the papers and the key lists, in plain torch, and share no code with the project: what both give
for the same checkpoint must agree.
"""

import torch


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter at random, at a size that keeps activations alive: no bias and no norm stays neutral."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
        parameter.data.normal_(0, min(spread, 0.2), generator=generator)
        if parameter.ndim == 1:
            parameter.data.add_(0.5)
    return model.eval().requires_grad_(False)
