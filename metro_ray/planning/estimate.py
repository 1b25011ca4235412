"""Time, cost and bottleneck of a run, from costs of its parts; docs/scaling.md has the arithmetic.

A step takes as long as the slowest of what goes on at the same time: computing and adding up
gradients, decoding, and reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metro_ray.planning.work import StepWork


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where the run is to be."""

    gpus: int
    """Devices; one rank each."""
    gpus_per_node: int
    cpus_per_gpu: float
    """Cores for each device; one is the rank's own, unless the device is the core."""
    images_per_second: float
    """That one device computes by itself."""
    rate_source: str
    nvlink_gb_s: float
    """1e9 bytes a second between devices of a machine."""
    network_gb_s: float
    """1e9 bytes a second between machines, of one machine."""
    storage_gb_s: float
    """1e9 bytes a second that one machine reads."""
    price: float
    """Dollars an hour of one device."""
    overlap: float
    """Part of a step's computing during which gradients can travel."""

    @property
    def nodes(self) -> int:
        """Machines."""
        return -(-self.gpus // self.gpus_per_node)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What the run is to do."""

    rows: int
    epochs: int
    batch: int
    """Rows of one rank in a step, those of all the batches that it accumulates."""
    row_ms: float
    """CPU time of one row, Ray Data's share included."""
    row_kb: float
    work: StepWork
    accumulated: int = 1
    """Batches of a step; gradients travel during the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What it comes to. Seconds are of one step."""

    compute_s: float
    all_reduce_s: float
    """Of all gradients, if nothing else went on."""
    exposed_s: float
    """The part of it that computing does not hide."""
    decode_s: float
    read_s: float
    steps: int
    images_per_second: float
    hours: float
    dollars: float
    bottleneck: str
    """compute, gradients, decoding or storage."""
    efficiency: float
    """Images a second, over those of as many devices that never wait."""
    cpus_per_gpu_needed: float
    """Cores for each device with which decoding would just keep up."""


def estimate(load: Load, site: Site) -> Estimate:
    """Add up what a run takes. Validation, checkpoints and start-up are not in it."""
    compute = load.batch / site.images_per_second
    all_reduce = _all_reduce_s(load.work.gradient_bytes, site)
    exposed = max(0.0, all_reduce - site.overlap * compute / load.accumulated)
    decode = load.batch * load.row_ms / 1e3 / decoding_cpus(site)
    ranks_per_node = min(site.gpus, site.gpus_per_node)
    read = ranks_per_node * load.batch * load.row_kb * 1e3 / (site.storage_gb_s * 1e9)
    in_turn = {"compute": compute, "gradients": exposed}
    meanwhile = {"decoding": decode, "storage": read}
    if site.cpus_per_gpu <= 1:  # the core that computes also decodes
        in_turn["decoding"] = meanwhile.pop("decoding")
    device = sum(in_turn.values())
    step = max(device, *meanwhile.values())
    steps = load.epochs * -(-load.rows // (load.batch * site.gpus))
    rate = load.batch * site.gpus / step
    hours = steps * step / 3600
    parts = meanwhile if step > device else in_turn
    return Estimate(
        compute_s=compute,
        all_reduce_s=all_reduce,
        exposed_s=exposed,
        decode_s=decode,
        read_s=read,
        steps=steps,
        images_per_second=rate,
        hours=hours,
        dollars=hours * site.gpus * site.price,
        bottleneck=max(parts, key=parts.__getitem__),
        efficiency=rate / (site.gpus * site.images_per_second),
        cpus_per_gpu_needed=1 + load.row_ms / 1e3 * site.images_per_second,
    )


def decoding_cpus(site: Site) -> float:
    """Cores that decode for one device."""
    return site.cpus_per_gpu - 1 if site.cpus_per_gpu > 1 else 1.0


def _all_reduce_s(gradient_bytes: int, site: Site) -> float:
    """A ring: every device sends 2 (G - 1) / G of the gradients over the slowest link it has."""
    if site.gpus == 1:
        return 0.0
    slowest = site.nvlink_gb_s if site.nodes == 1 else min(site.nvlink_gb_s, site.network_gb_s)
    return 2 * (site.gpus - 1) / site.gpus * gradient_bytes / (slowest * 1e9)


def text_of(load: Load, site: Site, done: Estimate) -> str:
    """The estimate for people."""
    ms = 1e3
    rows = [
        ("computing", done.compute_s, f"{site.images_per_second:,.1f} images/s of one device"),
        (
            "gradients",
            done.exposed_s,
            f"{load.work.gradient_bytes / 1e6:,.0f} MB; {done.all_reduce_s * ms:,.1f} ms, "
            "less what computing hides",
        ),
        (
            "decoding",
            done.decode_s,
            f"{load.row_ms:.2f} ms a row on {decoding_cpus(site):g} core(s) for each device",
        ),
        ("reading", done.read_s, f"{load.row_kb:g} kB a row at {site.storage_gb_s:g} GB/s"),
    ]
    lines = [
        f"{site.gpus} device(s) on {site.nodes} machine(s), {load.batch} images each a step"
        f"{_in_batches(load)}, "
        f"{load.work.flops / 1e9:,.0f} GFLOP an image",
        f"rate of a device: {site.rate_source}",
        "",
        *(f"{name:<10} {seconds * ms:10,.1f} ms a step   {why}" for name, seconds, why in rows),
        "",
        f"{done.images_per_second:,.0f} images/s ({done.efficiency:.0%} of devices that never "
        f"wait); the bottleneck is {done.bottleneck}",
        f"{load.rows:,} rows x {load.epochs} epochs: {done.steps:,} steps, {done.hours:,.1f} h, "
        f"${done.dollars:,.0f} at ${site.price:g} a device and hour",
        f"decoding keeps up with {done.cpus_per_gpu_needed:,.1f} cores for each device",
    ]
    return "\n".join(lines)


def _in_batches(load: Load) -> str:
    return f" in {load.accumulated} batches" if load.accumulated > 1 else ""


def as_dict(load: Load, site: Site, done: Estimate) -> dict[str, Any]:
    """The same for programs."""
    from dataclasses import asdict

    plain = asdict(load)
    plain["work"] = load.work._asdict()
    return {"load": plain, "site": {**asdict(site), "nodes": site.nodes}, **asdict(done)}
