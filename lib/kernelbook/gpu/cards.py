"""What machines can do at best, with sources: the ceilings that measurements are held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kernelbook.gpu.registry import Work

KB, MB, GB, T = 1 << 10, 1 << 20, 10**9, 10**12


@dataclass(frozen=True)
class Level:
    """One level of memory: bytes in all, bytes per second in all (None where its maker gives no figure)."""

    name: str
    size: float
    bandwidth: float | None


@dataclass(frozen=True)
class Card:
    """A machine's ceilings.

    levels: memory from the nearest to the farthest; the last is main memory.
    rates: operations per second by unit, dense; "special" counts exp2, log2, sin and the like in float32.
    """

    name: str
    levels: tuple[Level, ...]
    rates: Mapping[str, float]
    sources: tuple[str, ...]

    @property
    def bandwidth(self) -> float:
        """Bytes per second of main memory."""
        most = self.levels[-1].bandwidth
        assert most is not None
        return most

    @property
    def l2(self) -> float:
        """Bytes of the last cache before main memory."""
        return self.levels[-2].size

    def ridge(self, unit: str) -> float:
        """Flops per byte of main memory from which on arithmetic in this unit is the limit."""
        return self.rates[unit] / self.bandwidth

    def times(self, work: Work) -> dict[str, float]:
        """Seconds that each resource needs at the least: memory, the unit of the flops, special functions."""
        found = {"memory": work.bytes / self.bandwidth}
        if work.flops and work.unit in self.rates:
            found[work.unit] = work.flops / self.rates[work.unit]
        if work.special and "special" in self.rates:
            found["special"] = work.special / self.rates["special"]
        return found

    def floor(self, work: Work) -> float:
        """Seconds below which no program can do this work here: the roofline."""
        return max(self.times(work).values())

    def bound(self, work: Work) -> str:
        """The resource that sets the floor."""
        times = self.times(work)
        return max(times, key=lambda k: times[k])


GUIDE = "CUDA C++ Programming Guide, arithmetic instructions: 16 special functions per clock and multiprocessor"

CARDS: dict[str, Card] = {
    c.name: c
    for c in (
        Card(
            "NVIDIA H200",
            (
                Level("registers", 132 * 256 * KB, None),
                Level("L1 and shared memory", 132 * 256 * KB, 132 * 128 * 1.98 * GB),
                Level("L2", 50 * MB, None),
                Level("HBM3e", 141 * GB, 4.8 * T),
            ),
            dict(
                fp64=34 * T,
                fp32=67 * T,
                tf32=494.5 * T,
                bf16=989.5 * T,
                fp16=989.5 * T,
                int8=1979 * T,
                special=132 * 16 * 1.98 * GB,
            ),
            (
                "NVIDIA H200 Tensor Core GPU data sheet (tensor rates there are with sparsity: halved here)",
                "NVIDIA H100 Tensor Core GPU Architecture white paper (same chip: 132 multiprocessors, caches, 1.98 GHz)",
                "L1: 128 bytes per clock and multiprocessor",
                GUIDE,
            ),
        ),
        Card(
            "NVIDIA A100 80GB",
            (
                Level("registers", 108 * 256 * KB, None),
                Level("L1 and shared memory", 108 * 192 * KB, 108 * 128 * 1.41 * GB),
                Level("L2", 40 * MB, None),
                Level("HBM2e", 80 * GB, 2.039 * T),
            ),
            dict(
                fp64=9.7 * T, fp32=19.5 * T, tf32=156 * T, bf16=312 * T, fp16=312 * T, int8=624 * T, special=108 * 16 * 1.41 * GB
            ),
            (
                "NVIDIA A100 Tensor Core GPU data sheet (SXM4, 80 GB)",
                "NVIDIA A100 Tensor Core GPU Architecture white paper (108 multiprocessors, caches, clock of 1.41 GHz)",
                GUIDE,
            ),
        ),
        Card(
            "NVIDIA GeForce RTX 4090",
            (
                Level("registers", 128 * 256 * KB, None),
                Level("L1 and shared memory", 128 * 128 * KB, 128 * 128 * 2.52 * GB),
                Level("L2", 72 * MB, None),
                Level("GDDR6X", 24 * GB, 1.008 * T),
            ),
            dict(
                fp64=1.29 * T,
                fp32=82.6 * T,
                tf32=82.6 * T,
                bf16=165.2 * T,
                fp16=165.2 * T,
                int8=660.6 * T,
                special=128 * 16 * 2.52 * GB,
            ),
            ("NVIDIA Ada GPU Architecture white paper, appendix A (dense rates, float32 accumulation)", GUIDE),
        ),
        Card(
            "laptop (Core Ultra 7 155H)",
            (
                Level("L1", 6 * 48 * KB, 6 * 64 * 4.8 * GB),
                Level("L2", 6 * 2 * MB, None),
                Level("L3", 24 * MB, None),
                Level("DDR5-5600", 32 * GB, 89.6 * GB),
            ),
            dict(fp64=6 * 4.8 * 16 * GB, fp32=6 * 4.8 * 32 * GB),
            (
                "Intel product specifications, Core Ultra 7 processor 155H (six performance cores, 4.8 GHz, caches)",
                "two AVX2 fused multiply-adds and two 32-byte loads per clock and performance core",
                "JEDEC JESD79-5: two channels of 8 bytes at 5.6 GT/s",
            ),
        ),
    )
}


def card_of(device: str) -> Card | None:
    """The card that a device's name belongs to, or None.  device: as torch.cuda.get_device_name() gives it."""
    found = [c for name, c in CARDS.items() if name.lower() in device.lower()]
    return max(found, key=lambda c: len(c.name)) if found else None
