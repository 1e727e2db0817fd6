"""Contract tests of the processor of every registered encoder."""

import pickle
import warnings

import numpy as np
from encoder_parts import every_encoder, make_parts, make_processor, same
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from encoders import ENCODERS
from mmbert.checkpoint.processors import restore_processor, write_parts
from mmbert.contracts import Processors
from mmbert.data.collate import collate, encode_sample
from mmbert.errors import SampleError
from mmbert.registry import keyword_only_parameters
from mmbert.types import Sample

EMPTY = ["", b"", [], (), {}, np.zeros((0, 3)), {"nodes": []}]
BAD = [
    *(object(), None, 3, 2.5j, "\0", "\ud800", b"\xff\0", "no-such-value", len, {1, 2}, (1, 2, 3)),
    *([object()], [["1", None]], [[1], [2, 3]], [10**400]),
    *({"no": "such"}, {1: 2}, {"array": object()}, {"bytes": 5}, {"nodes": 5}, {"nodes": ["a"], "edges": [5]}),
    *((np.zeros(4), float("inf")), np.array(5), np.array([object()]), np.zeros((2, 2, 2, 2))),
]


def states(processor, folder):
    """The bytes of a processor in a checkpoint."""
    folder.mkdir(exist_ok=True)
    write_parts(folder, {"own": processor}, {})
    return [(folder / file).read_bytes() for file in ("parts.json", "processors.safetensors")]


@every_encoder
def test_processors_travel_by_pickle_and_checkpoint(name, tmp_path):
    processor, values = make_processor(name)
    before = states(processor, tmp_path / "saved")
    for copy in (
        pickle.loads(pickle.dumps(processor)),
        restore_processor(tmp_path / "saved", "own", type(processor)),
    ):
        assert states(copy, tmp_path / "copy") == before
        assert all(same(copy(value), processor(value)) for value in values)
        assert type(copy) is type(processor)


@every_encoder
def test_fitting_twice_is_fitting_once(name, tmp_path):
    once, twice = make_processor(name)[0], make_processor(name, fits=2)[0]
    assert states(once, tmp_path / "once") == states(twice, tmp_path / "twice")


@every_encoder
def test_chance_comes_from_the_generator_alone(name):
    kind = ENCODERS.get(name).processor
    chosen = {"augment": True} if "augment" in keyword_only_parameters(kind) else {}
    processor, values = make_processor(name, **chosen)
    plain, _ = make_processor(name)
    for value in values[:6]:
        assert same(processor(value), plain(value))
        assert same(processor(value, np.random.default_rng(7)), processor(value, np.random.default_rng(7)))
        assert same(plain(value, np.random.default_rng(7)), plain(value))  # no augmentation by default


@every_encoder
def test_features_are_finite_and_of_one_length(name):
    processor, _, items = make_parts(name)
    batch = processor.collate(items)
    vectors = [processor.features(item) for item in items]
    if vectors[0] is not None:
        assert len({vector.shape for vector in vectors}) == 1
        assert vectors[0].ndim == 1
        assert np.isfinite(vectors).all()
        assert np.ptp(vectors, axis=0).any()
        padded = [processor.features({key: tensor[row] for key, tensor in batch.items()}) for row in range(len(items))]
        np.testing.assert_allclose(padded, vectors, rtol=1e-5, atol=1e-6)


@every_encoder
def test_a_shown_bit_is_read_as_such(name):
    """A linear model on the simple features predicts the bit."""
    kind, rng = ENCODERS.get(name).processor, np.random.default_rng(0)
    bits = [0, 1] * 60
    values = [kind.example_with_bit(bit, rng) for bit in bits]
    processor = kind()
    processor.fit(values)
    features = np.stack([processor.features(processor(value)) for value in values])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(features[:80], bits[:80])
    assert model.score(features[80:], bits[80:]) > 0.9


@every_encoder
def test_a_bad_value_is_refused_and_an_empty_one_absent(name):
    processor, values = make_processor(name)
    for value in [*BAD, *EMPTY]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tensors = processor(value)
            except SampleError:
                continue
        assert type(value) is not object
        assert not tensors or tensors.keys() == processor(values[0]).keys(), value
        assert all(tensor.isfinite().all() for tensor in tensors.values()), value
        sample = Sample(id=1, source="test", inputs={"own": value}, targets={})
        batch = collate([encode_sample(sample, Processors({"own": processor}, {}))], Processors({"own": processor}, {}))
        assert ("own" in batch.inputs) == bool(tensors), value
