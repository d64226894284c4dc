"""Blur: sampled Gaussians, the separable blur of an image, and the transfer function of any filter."""

import math

import torch

BOUNDARIES = ("zero", "wrap", "reflect")


def gaussian_kernel(
    sigma: float, *, radius: int | None = None, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> torch.Tensor:
    """The Gaussian exp(-t^2 / (2 sigma^2)) at the lags t = -radius..radius, scaled to sum to 1.

    sigma: standard deviation in samples, > 0. radius: 4 sigma, rounded, where not given (SciPy's choice).
    Returns (2 radius + 1,) of the given dtype and device.
    Raises ValueError for a sigma that is not positive and finite, and for a negative radius.
    Source: the sampled Gaussian, as in scipy.ndimage.gaussian_filter1d.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma={sigma}: expected a positive, finite number of samples")
    radius = int(4 * sigma + 0.5) if radius is None else radius
    if radius < 0:
        raise ValueError(f"radius={radius}: expected a number of samples >= 0")
    lag = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weight = torch.exp(-0.5 * (lag / sigma) ** 2)
    return (weight / weight.sum()).to(dtype=dtype, device=device)


def gaussian_blur(image: torch.Tensor, sigma: float, *, boundary: str = "reflect", radius: int | None = None) -> torch.Tensor:
    """A Gaussian blur over the last two axes: one pass along the rows, one along the columns.

    image: (..., H, W), real floating; sigma and radius as in `gaussian_kernel`.
    boundary: what stands beyond the border: "zero", "wrap" (the opposite side), "reflect" (d c b a | a b c d).
    Returns (..., H, W) of the same dtype and device; differentiable in image.
    Raises ValueError for fewer than two axes, an empty image, a dtype that is not floating, an unknown boundary.
    Source: scipy.ndimage.gaussian_filter, with modes "constant", "wrap" and "reflect".
    """
    if image.dim() < 2 or image.numel() == 0:
        raise ValueError(f"image has shape {tuple(image.shape)}: expected (..., height, width), none of them 0")
    if not image.is_floating_point():
        raise ValueError(f"image has dtype {image.dtype}: expected a real floating dtype")
    k = gaussian_kernel(sigma, radius=radius, dtype=image.dtype, device=image.device)
    along_rows = _filter_last(image, k, boundary)
    return _filter_last(along_rows.mT, k, boundary).mT


def transfer_function(kernel: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The DFT of a filter on a ring (or torus) of the given shape: what it multiplies each frequency with.

    kernel: (..., m) or (..., h, w): as many last axes as shape has; the origin of an axis with m weights is m // 2.
    A kernel longer than the ring is wrapped onto it and summed.
    Returns complex (..., *shape), frequencies in the order of torch.fft.fftn; differentiable in kernel.
    Raises ValueError for an empty shape, a size below 1, a kernel with too few axes or a dtype that is not floating.
    Source: psf2otf of MATLAB; Gonzalez and Woods, Digital Image Processing, section 4.7.
    """
    dims = len(shape)
    if dims == 0 or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)}: expected one size >= 1 for each axis of the filter")
    if kernel.dim() < dims or not kernel.is_floating_point():
        raise ValueError(
            f"kernel has shape {tuple(kernel.shape)} and dtype {kernel.dtype}: expected real floating "
            f"weights with at least the {dims} axes of shape {tuple(shape)}"
        )
    for axis, size in zip(range(-dims, 0), shape, strict=True):
        kernel = _wrapped(kernel, axis, size)
    return torch.fft.fftn(kernel, dim=tuple(range(-dims, 0)))


def _wrapped(kernel: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """The kernel on a ring of `size` positions along one axis, its origin at position 0."""
    length = kernel.shape[axis]
    place = (torch.arange(length, device=kernel.device) - length // 2) % size
    ring = list(kernel.shape)
    ring[axis] = size
    return kernel.new_zeros(ring).index_add(axis, place, kernel)


def _filter_last(x: torch.Tensor, k: torch.Tensor, boundary: str) -> torch.Tensor:
    """Convolution along the last axis with an odd, centered kernel."""
    n, radius = x.shape[-1], k.shape[-1] // 2
    place = torch.arange(-radius, n + radius, device=x.device)
    if boundary == "zero":
        padded = torch.nn.functional.pad(x, (radius, radius))
    elif boundary == "wrap":
        padded = x[..., place % n]
    elif boundary == "reflect":
        place = place % (2 * n)
        padded = x[..., torch.minimum(place, 2 * n - 1 - place)]
    else:
        raise ValueError(f"boundary={boundary!r}: expected one of {BOUNDARIES}")
    rows = padded.reshape(-1, 1, n + 2 * radius)
    return torch.nn.functional.conv1d(rows, k.flip(0).reshape(1, 1, -1)).reshape(x.shape)
