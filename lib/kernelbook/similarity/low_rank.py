"""Low-rank approximations out of a few rows and columns: Nyström for Gram matrices, CUR for any."""

import torch


def truncated_pinv(A: torch.Tensor, rtol: float = 1e-3) -> torch.Tensor:
    """Pseudo-inverse of A (n, m) -> (m, n), singular values below rtol times the largest counted as 0.

    Raises ValueError for what is no matrix, or an rtol outside [0, 1).
    Source: Golub and Van Loan (2013), section 5.5.2.
    """
    if A.dim() != 2 or not 0 <= rtol < 1:
        raise ValueError(f"A has shape {tuple(A.shape)}, rtol={rtol!r}: expected a matrix and a share from 0 up to 1")
    if not A.numel():
        return A.mT.clone()
    U, s, V = torch.linalg.svd(A, full_matrices=False)
    kept = s > rtol * s[0]
    return V[kept].mT / s[kept] @ U[:, kept].mT


def nystrom(columns: torch.Tensor, core: torch.Tensor, rtol: float = 1e-10) -> torch.Tensor:
    """Factor F with F F^T = C W^+ C^T, the Nyström approximation of a Gram matrix: (n, rank), rank at most m.

    columns C: (n, m), the Gram matrix of all points with m landmarks; core W: (m, m), that of the landmarks.
    rtol: eigenvalues of W below rtol times the largest are left out.
    Raises ValueError where the shapes do not fit, or an rtol outside [0, 1).
    Source: Williams and Seeger (2001), equation 8.
    """
    if columns.dim() != 2 or core.shape != (columns.shape[1], columns.shape[1]) or not 0 <= rtol < 1:
        raise ValueError(
            f"columns has shape {tuple(columns.shape)}, core {tuple(core.shape)}, rtol={rtol!r}: "
            "expected (n, m), (m, m) and a share from 0 up to 1"
        )
    values, vectors = torch.linalg.eigh(core)
    kept = values > rtol * values.max() if len(values) else values > 0
    return columns @ (vectors[:, kept] / values[kept].sqrt())


def cur(columns: torch.Tensor, intersection: torch.Tensor, rows: torch.Tensor, rtol: float = 1e-3) -> torch.Tensor:
    """CUR approximation C U R of a matrix, U the truncated pseudo-inverse of what C and R share.  Returns (n, m).

    columns C: (n, c); intersection: (r, c), the entries in both; rows R: (r, m).  Exact where the intersection has the rank of
    the matrix.  For many right sides keep U R, which is `truncated_pinv(intersection) @ rows`.
    Raises ValueError where the shapes do not fit, or an rtol outside [0, 1).
    Source: Goreinov et al. (1997); anncur, equation 2.
    """
    if columns.dim() != 2 or rows.dim() != 2 or intersection.shape != (len(rows), columns.shape[1]):
        shapes = [tuple(t.shape) for t in (columns, intersection, rows)]
        raise ValueError(f"columns, intersection, rows have shapes {shapes}: expected (n, c), (r, c), (r, m)")
    return columns @ (truncated_pinv(intersection, rtol) @ rows)
