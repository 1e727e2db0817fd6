"""The data loader: batches of training steps and of evaluation, by workers and ranks."""

import multiprocessing
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from data_parts import Letters, Number, all_samples, fields

from mmbert.contracts import Processors
from mmbert.data.loader import LoaderOptions, batches, evaluation_batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import Shard, StepPlan
from mmbert.data.sources.generated import GeneratedSource
from mmbert.errors import RecipeError, SampleError
from mmbert.types import Sample

PROCESSORS = {"text": Letters(), "size": Number()}
LABELS = {"price": Number()}
ROOT = Path(__file__).resolve().parents[2]
INPUTS = {**fields(Letters, "text"), **fields(Number, "size")}


def make_items(seed=0, rows=(30, 17)):
    sources = [
        GeneratedSource(f"s{at}", INPUTS, fields(Number, "price"), rows=n, absent=0.3) for at, n in enumerate(rows)
    ]
    splits = [all_samples(source) for source in sources]
    return SampleDataset(splits, Processors(PROCESSORS, LABELS), seed=seed, input_dropout=0.3)


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_positions_run_through_all_sources():
    items = make_items()
    assert len(items) == 47
    assert items.sample(29) == items.splits[0][29]
    assert items.sample(30) == items.splits[1][0]
    for position in (47, -1):
        with pytest.raises(IndexError):
            items.sample(position)


def test_an_item_depends_only_on_its_position_and_epoch():
    items, second = make_items(), pickle.loads(pickle.dumps(make_items()))
    for draw in [(5, 0), (5, None), (40, 3)]:
        same(items[draw], second[draw])


def test_items_depend_on_seed_and_epoch_in_training_only():
    items = SampleDataset([[Sample(1, "shop", {"size": 0}, {})]], Processors(PROCESSORS, LABELS))
    second = SampleDataset(items.splits, Processors(PROCESSORS, LABELS), seed=1)
    values = [each[0, epoch].inputs["size"]["values"].item() for each in (items, second) for epoch in (0, 1, None)]
    assert len({*values}) == 5  # evaluation does not depend on the seed
    assert values[2] == values[5] == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_follow_the_plan(workers):
    items = make_items()
    plan = StepPlan(1, len(items), 8)
    loaded = [*batches(plan, items, steps=7, accumulate=2, loading=LoaderOptions(workers))]
    assert [len(step) for step in loaded] == [2] * 7
    for step, micro_batches in enumerate(loaded):
        draws = plan.batch(step)
        same(micro_batches, [items.batch(draws[:4]), items.batch(draws[4:])])


def test_loading_resumes_at_any_step():
    items = make_items()
    plan = StepPlan(1, len(items), 8)
    same([*batches(plan, items, steps=9)][6:], [*batches(plan, items, steps=9, start=6)])


def test_ranks_together_read_the_whole_step():
    items = make_items()
    plan = StepPlan(1, len(items), 8)
    undivided = [batch.ids for (batch,) in batches(plan, items, steps=5)]
    shares = [[batch.ids for (batch,) in batches(plan, items, steps=5, shard=Shard(rank, 2))] for rank in range(2)]
    same([torch.cat(pair) for pair in zip(*shares, strict=True)], undivided)


def test_a_batch_that_cannot_be_shared_is_refused_at_once():
    items = make_items()
    with pytest.raises(RecipeError, match="must be a multiple of processes x accumulate"):
        batches(StepPlan(1, len(items), 8), items, steps=5, shard=Shard(0, 3))


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (3, 0), (60, 0), (1, 2), (2, 2)])
def test_evaluation_reads_each_item_once(world, workers):
    items = make_items()
    shares = [
        [*evaluation_batches(items, 5, shard=Shard(rank, world), loading=LoaderOptions(workers))]
        for rank in range(world)
    ]
    ids = [number for share in shares for batch in share for number in batch.ids.tolist()]
    assert sorted(ids) == sorted(items.sample(position).id for position in range(len(items)))
    assert all(len(batch) <= 5 for share in shares for batch in share)
    if world == 1:
        assert ids == [items.sample(position).id for position in range(len(items))]
        same(shares[0][0], items.batch([(position, None) for position in range(5)]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_value_is_reported_without_the_traceback_of_a_worker(workers):
    samples = [
        Sample(row, "shop", {"size": row if row != 6 else "six"}, {}, {"where": f"row {row}"}) for row in range(12)
    ]
    loaded = evaluation_batches(
        SampleDataset([samples], Processors(PROCESSORS, LABELS)), 4, loading=LoaderOptions(workers)
    )
    assert next(loaded).ids.tolist() == [0, 1, 2, 3]
    with pytest.raises(SampleError, match=r"^shop \(row 6\), input 'size': expected a number, found 'six'$"):
        next(loaded)


def test_global_random_state_is_left_alone():
    items = make_items()
    before = torch.get_rng_state()
    [*batches(StepPlan(1, len(items), 8), items, steps=2), *evaluation_batches(items, 8)]
    same(torch.get_rng_state(), before)


def test_in_a_process_group_workers_are_forked_by_a_server_without_threads():
    items = make_items()
    plan = StepPlan(0, len(items), 8)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        helped = batches(plan, items, steps=6, loading=LoaderOptions(1))
        loaded = [next(helped)]
        (server,) = (child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline()))
        assert len(server.children()) == 1  # so no worker was forked from this process
        server.terminate()  # like a launcher that signals its process group
        server.send_signal(signal.SIGUSR1)
        loaded += helped
        assert server.is_running()
        assert server.status() != psutil.STATUS_ZOMBIE
    finally:
        torch.distributed.destroy_process_group()
    for first, second in zip(loaded, batches(plan, items, steps=6), strict=True):
        for helped_batch, batch in zip(first, second, strict=True):
            same(helped_batch.ids, batch.ids)
            same(helped_batch.inputs["text"].tensors, batch.inputs["text"].tensors)


KILLED = """
import os, signal
from pathlib import Path
import psutil, torch
from mmbert.contracts import Processors
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.loader import LoaderOptions, batches
from mmbert.data.sampler import StepPlan
from mmbert.types import Sample
if mode == "group":
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
items = SampleDataset([[Sample(row, "shop", {}, {}) for row in range(64)]], Processors({}, {}))
loaded = batches(StepPlan(0, 64, 8), items, steps=64, loading=LoaderOptions(2))
next(loaded)
Path(path).write_text(" ".join(str(child.pid) for child in psutil.Process().children(recursive=True)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("mode", ["alone", "group"])
def test_workers_and_their_server_end_when_the_run_is_killed(tmp_path, mode):
    code = f"mode, path = {mode!r}, {str(tmp_path / 'pids')!r}\n{KILLED}"
    if mode == "alone":
        process = multiprocessing.get_context("fork").Process(target=exec, args=(code, {}))
        process.start()
        process.join(timeout=1200)
        assert process.exitcode == -signal.SIGKILL
    else:  # not forked, or it would share our server of workers
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # an orphan would keep a pipe open
        command = [sys.executable, "-c", code]
        assert subprocess.run(command, cwd=ROOT, check=False, **quiet).returncode == -signal.SIGKILL
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    assert len(pids) >= 2
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=1200)
    for process in alive:
        process.kill()
    assert not alive
