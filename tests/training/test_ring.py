"""Contrast across processes: two gloo processes against one with the same global batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from megaportraits.config import TrainBaseConfig
from megaportraits.data.batches import PairBatch
from megaportraits.models.motion import Expression, Motion
from megaportraits.ops.compositing import composite
from megaportraits.ops.warping import Pose
from megaportraits.training import base
from megaportraits.training.base import BaseStage
from megaportraits.training.ring import previous_sample, share_of, with_previous
from megaportraits.training.views import Views
from tests.conftest import write_clips
from tests.training.test_training import stage_and_batch, tiny_run

NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R")


def plain_views(batch: PairBatch, config: TrainBaseConfig, generator: torch.Generator) -> Views:
    """Views without anything random, so that a sample looks the same in whichever process it is."""
    grey = torch.full((len(batch.identity), 3, 1, 1), 0.5)
    images = batch.source, batch.target, batch.driver
    source, target, driver = (composite(x.image.float() / 255, x.matte.float() / 255, grey) for x in images)
    return Views(source, target, batch.target.matte.float() / 255, grey, source, driver, driver)


def gradients(stage: BaseStage, batch: PairBatch) -> tuple[float, dict[str, Tensor]]:
    """The contrastive loss and its gradients."""
    stage.zero_grad()
    loss = stage("generator", batch, 2, torch.Generator().manual_seed(0))["contrastive"]
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in stage.named_parameters() if p.grad is not None}


def stage_of(config: TrainBaseConfig) -> BaseStage:
    torch.manual_seed(0)
    stage = BaseStage(config, NAMES)
    for parameter in stage.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return stage


def one_of_two(rank: int, folder: str, config: TrainBaseConfig) -> None:
    """What each process does: its half of every batch; gradients averaged as DDP averages them."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    base.make_views = plain_views
    out: dict[str, Any] = {}
    x = torch.arange(6.0).reshape(3, 2) + 6 * rank
    x.requires_grad_(True)
    rolled = previous_sample(x)
    (rolled * (torch.arange(6.0).reshape(3, 2) + 6 * rank)).sum().backward()
    out["rolled"], out["gradient"] = rolled.detach(), x.grad
    out["share"] = share_of(torch.tensor(3 * rank))
    for name in ("mixed", "uneven", "single"):
        batch: PairBatch = torch.load(f"{folder}/{name}.pt", weights_only=False)
        half = len(batch.identity) // 2
        loss, found = gradients(stage_of(config), batch[rank * half : (rank + 1) * half])
        value = torch.tensor(loss)
        for tensor in (value, *found.values()):
            dist.all_reduce(tensor)
        out[name] = float(value / 2), {n: g / 2 for n, g in found.items()}
    torch.save(out, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three batches, the config, and what two processes made of them."""
    folder = tmp_path_factory.mktemp("ring")
    clips = write_clips(folder / "clips")
    config = tiny_run(clips)
    # Without what makes the gradient jump where rounding differs: cells of copied pixels, one more use of z.
    off = dict.fromkeys(("source_skip", "mirror_hidden", "expression_change"), False)
    model = config.model.model_copy(update=off)
    config = config.model_copy(update={"data": config.data.model_copy(update={"flip": False}), "model": model})
    _, batch = stage_and_batch(clips)
    batch = replace(batch, person=torch.arange(4))
    uneven = replace(batch, identity=torch.tensor([0, 1, 1, 1]))  # the second half sees one other person, the first two
    single = batch[:2]  # one sample a process: another one only across processes
    batches = {"mixed": batch, "uneven": uneven, "single": single}
    for name, content in batches.items():
        torch.save(content, folder / f"{name}.pt")
    mp.spawn(one_of_two, (str(folder), config), nprocs=2)
    return batches, config, [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def test_the_batch_rolls_round_all_processes_and_so_does_its_gradient(two_processes: Any) -> None:
    _, _, ranks = two_processes
    x = torch.arange(12.0).reshape(6, 2).requires_grad_(True)
    (previous_sample(x) * torch.arange(12.0).reshape(6, 2)).sum().backward()
    assert torch.equal(torch.cat([r["rolled"] for r in ranks]), previous_sample(x).detach())
    assert x.grad is not None and torch.equal(torch.cat([r["gradient"] for r in ranks]), x.grad)


@pytest.mark.parametrize("name", ["mixed", "uneven", "single"])
def test_contrast_over_two_processes_has_the_gradient_of_one_with_the_same_batch(
    two_processes: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, config, ranks = two_processes
    monkeypatch.setattr(base, "make_views", plain_views)
    loss, alone = gradients(stage_of(config), batches[name])
    for value, spread in (rank[name] for rank in ranks):
        assert value == pytest.approx(loss, rel=1e-5) and loss != 0
        assert spread.keys() == alone.keys()
        for parameter, gradient in alone.items():
            error = (spread[parameter] - gradient).norm() / gradient.norm().clamp_min(1e-3)
            assert error < 1e-3, (parameter, float(error), float(gradient.norm()))


def test_shares_average_to_one_and_follow_the_counts(two_processes: Any) -> None:
    assert [float(rank["share"]) for rank in two_processes[2]] == [0, 2]
    assert float(share_of(torch.tensor(0))) == 0 and float(share_of(torch.tensor(7))) == 1


def test_nested_parts_are_followed_by_their_predecessors_and_none_stays_none() -> None:
    @dataclass(frozen=True)
    class Outer:
        motion: Motion
        nothing: Tensor | None = None

    motion = Motion(Pose(torch.rand(3, 3, 3), torch.rand(3, 2), torch.rand(3)), Expression(torch.rand(3, 4)))
    both = with_previous(Outer(motion))
    order = torch.tensor([0, 1, 2, 2, 0, 1])
    assert torch.equal(both.motion.pose.rotation, motion.pose.rotation[order]) and both.nothing is None
    assert torch.equal(both.motion.expression.z, motion.expression.z[order])
