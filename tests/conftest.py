"""Kernels are tested in Triton's interpreter, which must be chosen before Triton's first import."""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if os.environ.get("KERNELBOOK_PEERS") != "1":
    collect_ignore = ["peers"]  # `make peers` runs them, where other people's packages are installed
