"""Shards over HTTP: which files are downloaded by which process, and that every item can be reproduced."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from megaportraits.data import remote
from megaportraits.data.batches import PairBatch, collate
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.frames import FrameDataset
from megaportraits.data.pairs import PairDataset
from megaportraits.data.stream import Layout, StreamIndex
from megaportraits.errors import DataError
from tests.data.test_batches import same

SHARDS = 6


class Server(ThreadingHTTPServer):
    """Serves a folder, counts what is asked for, and fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: Counter[str] = Counter()
        self.failing: dict[str, int] = {}
        self.lists = True
        self.address = f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked[name] += 1
        if self.server.failing.get(name, 0) > 0:
            self.server.failing[name] -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def list_directory(self, path: Any) -> Any:
        if self.server.lists:
            return super().list_directory(path)
        self.send_error(403)
        return None

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Six shards of three clips; a clip of shard s is s * 30 + number in brightness."""
    monkeypatch.setenv("MEGAPORTRAITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_PAUSE_SECONDS", 0.01)
    folder = tmp_path / "served"
    for shard in range(SHARDS):
        write_shard(folder, shard)
    with running(Server(folder)) as started:
        yield started


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server, answering until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def write_shard(folder: Path, shard: int) -> None:
    labels = FrameLabels(np.eye(3), np.zeros(2), 1.0)
    with ShardWriter(folder, shard) as out:
        for number in range(3):
            frame = ClipFrame(
                np.full((16, 16, 3), shard * 30 + number, np.uint8), np.full((16, 16), 255, np.uint8), labels
            )
            record = ClipRecord(
                f"s{shard}c{number}", "cg", "p", f"g{number // 2}", 16, 25.0, ("jawOpen",), (labels,) * 2
            )
            out.write(record, [frame, frame])


def pairs(server: Server, **more: Any) -> PairDataset:
    return PairDataset(server.address, length=10_000, size=16, seed=1, **more)


def shard_of(item: PairBatch) -> int:
    return round(int(item.source.image.float().mean()) / 30)


def fetched(server: Server) -> Counter[str]:
    return Counter({name: count for name, count in server.asked.items() if name.endswith(".tar")})


@pytest.mark.parametrize(
    "layout", [Layout(12, 1, 1, 1), Layout(12, 3, 2, 1), Layout(12, 2, 1, 3), Layout(24, 2, 3, 4)], ids=str
)
def test_items_of_a_lane_follow_each_other_and_belong_to_one_loading_process(layout: Layout) -> None:
    """The lanes of torch's DataLoader: each rank's share in parts, which loading processes take in turn."""
    places: dict[int, list[int]] = {}
    share, part = layout.batch // layout.ranks, layout.batch // layout.ranks // layout.accumulate
    for rank in range(layout.ranks):
        own = [s * layout.batch + rank * share + i for s in range(12) for i in range(share)]
        for number in range(0, len(own), part):
            worker = number // part % layout.workers
            for k in own[number : number + part]:
                lane, place = layout.place(k)
                assert lane == rank * layout.workers + worker
                places.setdefault(lane, []).append(place)
    assert len(places) == layout.lanes
    assert all(sorted(place) == list(range(len(place))) for place in places.values())


def test_every_shard_is_fetched_once_an_epoch_and_by_one_lane(server: Server) -> None:
    lanes = 2
    seen: list[set[int]] = []
    for lane in range(lanes):  # as two ranks would, each with all its items of one epoch
        index = StreamIndex(server.address, seed=0, shards=1, draws=4)
        index.layout = Layout(batch=lanes, ranks=lanes)
        items = range(lane, lanes * 4 * SHARDS // lanes, lanes)
        seen.append({number >> 32 for k in items for number in index.at(k).clips})
    assert seen[0] | seen[1] == set(range(SHARDS)) and not seen[0] & seen[1]
    counts = fetched(server)
    assert set(counts) == {f"clips-{i:06d}.tar" for i in range(SHARDS)}
    assert sum(counts.values()) <= SHARDS + lanes  # and one ahead in each


def test_an_item_is_the_same_after_any_others_and_in_another_process(server: Server) -> None:
    index = [300, 301, 5, 900, 4, 300]
    one, other = pairs(server, cross_identity=0.5), pairs(server, cross_identity=0.5)
    for dataset in (one, other):
        dataset.spread(Layout(batch=4))
    items = {k: one[k] for k in index}
    for k in sorted(items):
        assert same(other[k], items[k])
    loaded = DataLoader(one, batch_size=1, sampler=[300, 301, 900], num_workers=1, collate_fn=collate)
    assert all(same(batch, collate([items[i]])) for batch, i in zip(loaded, (300, 301, 900), strict=True))
    assert len({shard_of(items[k]) for k in items}) > 1


def test_the_window_moves_through_all_shards_and_is_removed_behind(server: Server, tmp_path: Path) -> None:
    index = StreamIndex(server.address, seed=0, shards=2, draws=5)
    windows = [tuple(sorted({n >> 32 for n in index.at(k).clips})) for k in range(5 * SHARDS)]
    assert all(len(w) in (1, 2) for w in windows) and len(set(windows)) > 3
    assert {s for w in windows for s in w} == set(range(SHARDS))
    held = list((tmp_path / "cache/streams").glob("*/clips-*.tar"))
    assert len(held) <= 2


def test_an_index_file_names_the_shards_where_a_server_does_not_list(server: Server, tmp_path: Path) -> None:
    server.lists = False
    with pytest.raises(DataError, match=r"cannot be read|No shards|nothing is found"):
        StreamIndex(server.address, seed=0)
    (tmp_path / "served/index.txt").write_text("clips-000001.tar\nclips-000004.tar\n")
    index = StreamIndex(server.address, seed=0)
    assert {n >> 32 for n in index.at(0).clips} == {0, 1}  # numbers in the list
    window = index.at(0)
    assert {window.record(n).key for n in window.clips} == {f"s{s}c{c}" for s in (1, 4) for c in range(3)}


def test_a_failing_server_is_asked_again(server: Server) -> None:
    server.failing["clips-000002.tar"] = 2
    index = StreamIndex(server.address, seed=0, shards=SHARDS)
    assert {n >> 32 for n in index.at(0).clips} == set(range(SHARDS)) and index.lost() == 0
    assert server.asked["clips-000002.tar"] == 3


def test_torn_and_missing_shards_are_passed_over_and_counted(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "served/clips-000003.tar"
    torn.write_bytes(torn.read_bytes()[:1000])
    names = [f"clips-{i:06d}.tar" for i in range(SHARDS + 1)]  # the last one is nowhere
    (tmp_path / "served/index.txt").write_text("\n".join(names))
    dataset = PairDataset(server.address, length=9, size=16, expression_names=None)
    assert isinstance(dataset.index, StreamIndex) and dataset.expression_names == ("jawOpen",)
    lost = sum(int(dataset[k].unreadable) for k in range(0, 256 * 14, 128))
    told = capsys.readouterr().err
    assert lost + dataset.index.lost() <= 2 and "clips-000003.tar" in told and "clips-000006.tar" in told


def test_nothing_at_an_address_is_reported(server: Server) -> None:
    with pytest.raises(DataError, match=r"(nothing is found at|cannot be read|No shards)"):
        PairDataset(server.address + "elsewhere/", length=1, size=16)
    with pytest.raises(DataError, match="cannot be read"):
        PairDataset("http://127.0.0.1:9/data", length=1, size=16)
    with pytest.raises(DataError, match="Protocol not known"):
        PairDataset("nosuch://bucket/data", length=1, size=16)


def test_addresses_and_folders_mix_by_weight(server: Server, tmp_path: Path) -> None:
    write_shard(tmp_path / "near", 8)
    dataset = PairDataset(
        f"{server.address} * 0.75 + {tmp_path / 'near'} * 0.25", length=400, size=16, cross_identity=1.0
    )
    items = [dataset[k] for k in range(200)]
    near = sum(shard_of(item) == 8 for item in items)
    assert 30 < near < 75
    assert {bool(item.cross) for item in items} == {True, False}  # the third clip of a shard is alone in its group
    # A partner is of the same share and does the same motion.
    for item in items:
        one, other = int(item.source.image.float().mean()), int(item.driver.image.float().mean())
        assert (one >= 240) == (other >= 240)
    assert dataset.describe(collate(items[:50]))


def test_only_pairs_are_streamed(server: Server) -> None:
    with pytest.raises(DataError, match="only `train base` and `train motion` stream"):
        FrameDataset(server.address, length=1, size=16)
    with pytest.raises(DataError, match="is an address"):
        ClipIndex(server.address)
