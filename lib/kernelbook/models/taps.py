"""Activations of a network by name, read while it runs."""

from collections.abc import Iterable, Iterator
from types import TracebackType

import torch
from torch import nn


class FeatureTap:
    """Inside `with FeatureTap(model, names) as tap:`, `tap[name]` is the output of that module at the last forward pass.

    names: of modules, as in `model.named_modules()`.  Nothing is detached or copied: gradients flow through the taps, and
    dropout and batch normalization do what the model's mode says.  On leaving, the hooks are gone; the last outputs stay.
    Raises ValueError for no names or one that the model lacks, KeyError for an output asked for before a forward pass.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]):
        self.names = [names] if isinstance(names, str) else list(names)
        modules = dict(model.named_modules())
        unknown = [n for n in self.names if n not in modules or not n]
        if unknown or not self.names:
            raise ValueError(f"names={unknown or self.names!r}: expected some of {', '.join(n for n in modules if n)}")
        self._modules = {n: modules[n] for n in self.names}
        self._outputs: dict[str, torch.Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "FeatureTap":
        for name, module in self._modules.items():
            self._hooks.append(
                module.register_forward_hook(lambda _, __, output, name=name: self._outputs.update({name: output}))
            )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._outputs:
            raise KeyError(f"{name!r}: no output yet; tapped are {', '.join(self.names)}, and only during a forward pass")
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def values(self) -> list[torch.Tensor]:
        """The outputs in the order of the names."""
        return [self[n] for n in self.names]
