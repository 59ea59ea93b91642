"""Clockless: does a diffusion model need to be told the timestep?

Load a model, sample from it, capture an activation, and probe where the network encodes the noise level:

    import explore

    name, layer = "celeba32-unet-velocity-none", "mid.block.1"
    model = explore.load(name)
    images = explore.sample(model, seeds=[0, 1, 2, 3], sampler="heun", steps=10)
    with explore.capture(model, [layer]) as activations:
        model(images, 0.5)
    print(images.shape, activations[layer].shape)

    found = explore.Probe(name, data="bank:celeba", split="all", images=12, layer=(layer,), controls=1).run()
    print(found.atlas.best, found.probes.best)

Every experiment is a request, as ``Probe`` above: a frozen dataclass with its options, ``run()``, the ``command`` that gives
the same result on the command line and the ``code`` that gives it in Python. ``EXPERIMENTS`` lists them. The names below are
loaded when they are used; the modules of this package hold the rest, in the order of tests/test_imports.py.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "zoo": ("load", "info", "pairs"),
    "data": ("load_images", "to_uint8"),
    "denoiser": ("Denoiser",),
    "adapters": ("adapt", "from_diffusers"),
    "schedules": ("SCHEDULES",),
    "samplers": ("SAMPLERS", "Sampling", "sample"),
    "activations": ("hook_points", "capture", "sweep"),
    "bayes": ("posterior",),
    "saliency": ("attribute",),
    "experiments": (
        "EXPERIMENTS", "Clock", "Compare", "Evaluate", "Intervene", "Probe", "Saliency", "Sample", "Trajectories",
    ),
}  # fmt: skip
_MODULE = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'explore' has no attribute {name!r}")
    return getattr(importlib.import_module(f"explore.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
