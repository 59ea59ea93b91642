"""Clockless: does a diffusion model need to be told the time?

The modules form one line of imports, each using only those before it: schedules, models, denoiser, zoo, data,
samplers, training, figures, and the command line ``python -m explore``. tests/test_imports.py enforces the order.
"""

__version__ = "0.1.0"
