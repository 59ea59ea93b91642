"""Exact results about t under a stated prior: p(t | xt), Bayes denoisers with and without t, the cost of not knowing t.

``xt = alpha(t) x0 + sigma(t) eps`` with x0 from a finite set of images, a Gaussian with diagonal covariance, or a mixture.
Results are exact under their prior only, so priors and results carry a description of it. Float64 on the CPU.
"""

from explore.bayes.estimates import (
    BayesNetwork,
    Target,
    TimeGap,
    bayes_denoiser,
    conditional_mean,
    marginal_mean,
    time_gap,
)
from explore.bayes.gains import GAIN_TIMES, GainRow, drift_gain, error_gains
from explore.bayes.gaussians import (
    GAUSSIANS,
    DiagonalGaussian,
    fitted_gaussian,
    fitted_names,
    information_given_x0,
    relative_frechet,
    relative_mahalanobis,
    spectral_gaussian,
)
from explore.bayes.levels import Function, Levels
from explore.bayes.posteriors import Posterior, Width, posterior, posterior_width
from explore.bayes.priors import PLANAR, FiniteSet, Mixture, Prior

__all__ = [
    "GAIN_TIMES", "GAUSSIANS", "PLANAR", "BayesNetwork", "DiagonalGaussian", "FiniteSet", "Function", "GainRow", "Levels",
    "Mixture", "Posterior", "Prior", "Target", "TimeGap", "Width", "bayes_denoiser", "conditional_mean", "drift_gain",
    "error_gains", "fitted_gaussian", "fitted_names", "information_given_x0", "marginal_mean", "posterior",
    "posterior_width", "relative_frechet", "relative_mahalanobis", "spectral_gaussian", "time_gap",
]  # fmt: skip
