"""AlexNet, whole: the 2012 ImageNet system, as printed and as it was really run."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AlexNet": "alexnet.network.alexnet",
    "Classifier": "alexnet.classifier",
    "Recipe": "alexnet.training.recipe",
}
__all__ = ["AlexNet", "Classifier", "Recipe"]


def __getattr__(name: str) -> Any:
    # Resolved on first use: `import alexnet` and `alexnet --help` stay free of torch.
    if name not in _PUBLIC:
        raise AttributeError(f"module 'alexnet' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)
