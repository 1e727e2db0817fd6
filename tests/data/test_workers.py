"""Data workers that die or raise: reported within seconds with the requested samples, without a hang."""

import os
import resource
import signal
import time

import pytest
import torch
from data_parts import Number

from mmbert.contracts import Processor, Processors
from mmbert.data.loader import LoaderOptions, batches, evaluation_batches
from mmbert.data.sample_dataset import SampleDataset
from mmbert.data.sampler import Shard, StepPlan
from mmbert.errors import ResourceError, SampleError
from mmbert.types import Sample

MAIN = os.getpid()


class Dies(Number):
    """A number; ``how`` defines what happens to the worker that reads 9."""

    def __init__(self, how):
        self.how = how

    def __call__(self, value, rng=None):
        if value == 9 and os.getpid() != MAIN:
            self.how()
        return super().__call__(value, rng)


def killed():
    time.sleep(0.3)  # so that earlier batches have been sent
    os.kill(os.getpid(), signal.SIGKILL)


def no_shared_memory():
    """Let this process fail to create shared memory, as if /dev/shm were full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def unexpected():
    raise ZeroDivisionError("nine is too many")


def unsendable():
    raise ZeroDivisionError(lambda: 9)


def samples(rows=24):
    return [Sample(100 + row, "shop", {"size": row}, {}, {"where": f"row {row}"}) for row in range(rows)]


def read(how, workers=1):
    items = SampleDataset([samples()], Processors({"size": Dies(how)}, {}))
    return evaluation_batches(items, 4, loading=LoaderOptions(workers))


@pytest.mark.parametrize("how", [killed, no_shared_memory])
def test_a_worker_that_dies_is_reported_with_the_requested_samples(how):
    with pytest.raises(ResourceError, match="a data worker failed") as caught:
        [*read(how)]
    assert caught.value.exit_code == 5
    assert "109 of shop (row 9)" in str(caught.value)
    assert "--set train.workers=0" in str(caught.value)
    assert "/dev/shm" in str(caught.value)


def test_a_dead_worker_does_not_interrupt_other_work():
    before = signal.getsignal(signal.SIGCHLD)
    errors = read(killed)
    assert next(errors).ids.tolist() == [100, 101, 102, 103]
    time.sleep(0.6)  # meanwhile the worker has read ahead and died, without an error here
    assert signal.getsignal(signal.SIGCHLD) is before
    errors.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unexpected_error_keeps_its_type_and_names_the_row(workers, monkeypatch):
    if not workers:
        monkeypatch.setitem(globals(), "MAIN", 0)
    with pytest.raises(ZeroDivisionError, match="nine is too many") as caught:
        [*read(unexpected, workers)]
    assert caught.value.__notes__ == ["while reading shop (row 9), input 'size'"]
    if workers:
        assert "in unexpected" in str(caught.value.__cause__)  # the worker's traceback, before the error itself


def test_an_error_that_cannot_be_pickled_is_reported():
    with pytest.raises(RuntimeError, match="ZeroDivisionError") as caught:
        [*read(unsendable)]
    assert caught.value.__notes__ == ["while reading shop (row 9), input 'size'"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_stays_in_the_batch_without_inputs_and_labels(workers):
    rows = samples(8)
    rows[2] = Sample(102, "shop", {"size": "two"}, {"price": 2.0}, {"where": "row 2"})
    rows[5] = Sample(105, "shop", {"size": 5}, {"price": "much"}, {"where": "row 5"})
    rows[6] = Sample(106, "shop", {"size": 6}, {"price": 6.0}, {"where": "row 6"})
    items, errors = SampleDataset([rows], Processors({"size": Number()}, {"price": Number()})), []
    loaded = [*evaluation_batches(items, 4, loading=LoaderOptions(workers, on_bad=errors.append))]
    assert [batch.ids.tolist() for batch in loaded] == [[100, 101, 102, 103], [104, 105, 106, 107]]
    assert [batch.inputs["size"].rows.tolist() for batch in loaded] == [[0, 1, 3], [0, 2, 3]]
    assert ["price" in batch.targets for batch in loaded] == [False, True]
    assert loaded[1].targets["price"].rows.tolist() == [2]
    assert [(error.row, error.field) for error in errors] == [
        ("shop (row 2)", "input 'size'"),
        ("shop (row 5)", "task 'price'"),
    ]


def test_bad_samples_of_training_keep_ranks_in_step():
    rows = samples(16)
    rows[3] = Sample(103, "shop", {"size": "three"}, {}, {"where": "row 3"})
    items, errors = SampleDataset([rows], Processors({"size": Number()}, {})), []
    plan, loading = StepPlan(0, 16, 8), LoaderOptions(on_bad=errors.append)
    shares = [[*batches(plan, items, steps=4, shard=Shard(rank, 2), loading=loading)] for rank in range(2)]
    assert all(len(batch) == 4 for share in shares for (batch,) in share)
    assert [error.row for error in errors] == [
        "shop (row 3)"
    ] * 2  # once in each epoch; duplicates are removed elsewhere
    with pytest.raises(SampleError, match="expected a number"):
        [*batches(plan, items, steps=4)]


def test_a_sample_that_cannot_be_read_stays_in_the_batch():
    class Gone(list):
        def __getitem__(self, index):
            if index == 1:
                raise SampleError("there is no file").at("shop (row 1)", "input 'photo'")
            return super().__getitem__(index)

    errors = []
    (batch,) = evaluation_batches(
        SampleDataset([Gone(samples(3))], Processors({"size": Number()}, {})),
        4,
        loading=LoaderOptions(on_bad=errors.append),
    )
    assert batch.ids.tolist() == [100, -1, 102]
    assert [error.row for error in errors] == ["shop (row 1)"]


class Disk(Processor):
    """The first byte of a file."""

    reads_files = True

    def __call__(self, value, rng=None):
        with open(value, "rb") as file:
            return {"byte": torch.tensor(file.read(1)[0])}

    @classmethod
    def example(cls, rng):
        raise NotImplementedError


def test_a_file_that_disappears_while_it_is_read_is_a_bad_sample(tmp_path):
    rows = [Sample(1, "shop", {"photo": str(tmp_path / "a.png")}, {}, {"where": "row 1"})]
    with pytest.raises(SampleError, match=r"shop \(row 1\), input 'photo': cannot be read: .*No such file") as caught:
        [*evaluation_batches(SampleDataset([rows], Processors({"photo": Disk()}, {})), 4)]
    assert isinstance(caught.value.__cause__, FileNotFoundError)
