"""Distribution of a run over processes with Lightning Fabric's strategies, precision and compilation.

Fully sharded training is FSDP2 (`torch.distributed.fsdp.fully_shard`) by Fabric's `ModelParallelStrategy`: parameters,
gradients, averages and the optimizers' states are divided into as many shards as there are processes. (Fabric's
`FSDPStrategy` is FSDP1, which can neither freeze the other phases' parameters in every step nor run without a GPU.)
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from megaportraits.config import RunConfig
from megaportraits.errors import TrainingError
from megaportraits.extras import optional_dependency
from megaportraits.models.appearance import DescriptorEncoder, VolumeEncoder
from megaportraits.models.discriminator import Discriminator
from megaportraits.models.generators import Generator2D, Generator3D
from megaportraits.models.warp_generator import WarpGenerator
from megaportraits.nn.backbones import ResNet
from megaportraits.ops.precision import fast_in_bfloat16

with optional_dependency("train", "Training"):
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy

BLOCKS = (VolumeEncoder, DescriptorEncoder, WarpGenerator, Generator3D, Generator2D, ResNet, Discriminator)
"""The modules that are gathered and compiled one by one; the rest of a stage is one unit."""
CALLED_BY_NAME = "visible_depth"
"""A method of `Generator2D` that is called directly, not by calling the module: shards are gathered before it, too."""
_MESH = "data_parallel"


def make_fabric(settings: RunConfig) -> Fabric:
    """Make and launch the Fabric of a run.

    Raises:
        TrainingError: the settings are incompatible with each other or with this machine.
    """
    processes = settings.devices * settings.nodes
    strategy: Any = "auto"
    if settings.strategy == "fsdp":
        if settings.precision == "16-mixed":
            raise TrainingError(
                "fully sharded training runs in 32-true or bf16-mixed, got 16-mixed",
                fix="Set run.precision=bf16-mixed.",
            )
        strategy = ModelParallelStrategy(
            lambda module, mesh: shard(module, mesh[_MESH]), data_parallel_size=processes, tensor_parallel_size=1
        )
    elif settings.strategy == "ddp" or processes > 1:
        # In a phase, the other phases' parameters get no gradients; DDP must know that.
        strategy = DDPStrategy(find_unused_parameters=True)
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            precision=precision_of(settings),
            strategy=strategy,
        )
    except (ValueError, RuntimeError, TypeError) as error:
        asked = f"run.accelerator={settings.accelerator}, devices={settings.devices}, nodes={settings.nodes}"
        raise TrainingError(
            f"{asked} cannot run here: {' '.join(str(error).split())}", fix="Set these values as the machine has them."
        ) from error
    if settings.nodes > 1:
        _check_launched(fabric, settings.nodes)
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave_group)
    return fabric


def _check_launched(fabric: Fabric, nodes: int) -> None:
    """Raise if there are several machines but no launcher: the process would wait for the others for ever."""
    alone = isinstance(fabric.strategy.cluster_environment, LightningEnvironment)
    if alone and not {"MASTER_ADDR", "NODE_RANK"} <= set(os.environ):
        raise TrainingError(
            f"run.nodes={nodes}: expected one torchrun (or srun, or mpirun) on each machine, got a single process",
            fix="Start the run with torchrun as docs/training.md shows, or set run.nodes=1.",
        )


def _leave_group() -> None:
    """Destroy the process group at exit. Fabric does so for NCCL only, but gloo's threads can also abort the exit."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def precision_of(settings: RunConfig) -> Any:
    """A run's precision; "auto" is resolved for the accelerator on this machine."""
    if settings.precision != "auto":
        return settings.precision
    if settings.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = fast_in_bfloat16(torch.device("cuda"))
    else:
        fast = settings.accelerator in ("auto", "cpu") and fast_in_bfloat16(torch.device("cpu"))
    return "bf16-mixed" if fast else "32-true"


class ExactInputs(MixedPrecision):  # type: ignore[misc]  # lightning_fabric is not checked
    """Autocast as Fabric's, but the labels of a batch stay in float32.

    Fabric rounds all inputs of a module to 16 bits. In bfloat16 the error is up to 0.2 %: half a pixel of a landmark
    at 512 px, 0.1 degrees of a rotation. Autocast alone converts the operations that gain from it.
    """

    def convert_input(self, data: Any) -> Any:
        """Return the inputs unchanged."""
        return data


def keep_inputs_exact(fabric: Fabric) -> None:
    """Replace Fabric's mixed precision by `ExactInputs` with the same loss scale; other precisions do not change."""
    mixed = fabric.strategy.precision
    if isinstance(mixed, MixedPrecision):
        fabric.strategy.precision = ExactInputs(mixed.precision, mixed.device, mixed.scaler)


def any_rank(fabric: Fabric, *flags: bool) -> list[bool]:
    """For each flag, whether it is set in any process."""
    if fabric.world_size == 1:
        return list(flags)
    values = fabric.all_reduce(torch.tensor(flags, dtype=torch.float32, device=fabric.device), reduce_op="sum")
    return [bool(value > 0) for value in values]


def step_all(fabric: Fabric, optimizers: Iterable[Any]) -> None:
    """Make a step with every optimizer of `fabric.setup_optimizers`.

    With 16-mixed, the loss scale is updated once, after all steps. Fabric's own step would update it after every
    optimizer, but the next optimizer's gradients were computed with the previous scale.
    """
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    for optimizer in optimizers:
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer.optimizer)
    if scaler is not None:
        scaler.update()


def mesh_of(fabric: Fabric) -> DeviceMesh | None:
    """The device mesh over which a run is sharded; None if it is not sharded."""
    strategy = fabric.strategy
    return strategy.device_mesh[_MESH] if isinstance(strategy, ModelParallelStrategy) else None


def shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard all parameters in place. Each of `BLOCKS` is gathered while it runs, the rest with the whole module."""
    for block in reversed(list(_blocks(module))):  # inner ones first
        if block is not module:
            fully_shard(block, mesh=mesh)
            if hasattr(block, CALLED_BY_NAME):
                register_fsdp_forward_method(block, CALLED_BY_NAME)
    fully_shard(module, mesh=mesh)
    return module


def compile_blocks(module: nn.Module, *, backend: str = "inductor") -> int:
    """`torch.compile` every block in place, without changing names and state dicts; returns the number of blocks.

    Raises:
        TrainingError: there is no C++ compiler, which compilation for the CPU needs.
    """
    if backend == "inductor" and not torch.cuda.is_available() and not (shutil.which("g++") or shutil.which("clang++")):
        raise TrainingError("run.compile needs a C++ compiler and none is found", fix="Install g++ or set it to false.")
    blocks = list(_blocks(module))
    for block in blocks:
        block.compile(backend=backend)
    return len(blocks)


def lays_channels_last(device: torch.device) -> bool:
    """Whether `run.channels_last` is safe on this device; see `lay_channels_last`."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2"


def lay_channels_last(module: nn.Module, device: torch.device) -> None:
    """Convert the weights of 2D convolutions to the channels-last memory format, in place; feature maps then follow it.

    Raises:
        TrainingError: the device is a processor without AVX-512. There, oneDNN (torch 2.14) writes past its buffer in
            the weight gradient of 1x1 convolutions with a stride.
    """
    if not lays_channels_last(device):
        raise TrainingError(
            "run.channels_last can crash on a processor without AVX-512", fix="Set run.channels_last=false."
        )
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def whole(value: Any, *, keep: bool = True) -> Any:
    """Gather the sharded tensors of a state on the CPU; other values do not change.

    All processes must call this. Those with `keep` False take part, but get None instead of the gathered tensors.
    """
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else None
    if isinstance(value, dict):
        return {key: whole(entry, keep=keep) for key, entry in value.items()}
    if isinstance(value, list):
        return [whole(entry, keep=keep) for entry in value]
    return value


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an unsharded state into an optimizer; tensors are sharded like the optimizer's parameters.

    Raises:
        ValueError, KeyError: the state belongs to other parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def cut(value: Any, parameter: Tensor) -> Any:
        if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
            return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
        return value

    if any(isinstance(parameter, DTensor) for parameter in parameters):
        if len(parameters) != sum(len(group["params"]) for group in state["param_groups"]):
            raise ValueError("the optimizer's state is of another number of parameters")
        pieces = {
            i: {name: cut(value, parameters[i]) for name, value in entry.items()} for i, entry in state["state"].items()
        }
        state = {**state, "state": pieces}
    optimizer.load_state_dict(state)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if isinstance(part, BLOCKS))
