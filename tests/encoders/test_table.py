"""Tests of tables: types of cells, closed forms of both scalings, errors that name the column, one token per cell."""

import datetime
import math
import pickle
import warnings
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch

from encoders.table import TableEncoder, TableProcessor
from mmbert.errors import DataError, SampleError

ROWS = [
    {"mass": 1.0, "phase": "gas", "toxic": "TRUE"},
    {"mass": 2.0, "phase": "solid", "toxic": "False"},
    {"mass": 6.0, "phase": "gas", "toxic": True},
]
MISSING = [None, math.nan, np.float32("nan"), pd.NA, pd.NaT]


def fitted(rows=ROWS, **options):
    processor = TableProcessor(**options)
    processor.fit(rows)
    return processor


def column(cells, **options):
    """A processor fitted on one column, named x."""
    return fitted([{"x": cell} for cell in cells], **options)


def numbers_of(processor, *cells):
    return torch.cat([processor({"x": cell})["numbers"] for cell in cells])


def categories_of(processor, *cells):
    return torch.cat([processor({"x": cell})["categories"] for cell in cells]).tolist()


def test_columns_are_numbers_or_categories_in_the_order_of_their_names():
    processor = fitted()
    for row in (
        {"mass": 2.0, "phase": "gas", "toxic": "true"},
        {"toxic": np.True_, "phase": np.str_("gas"), "mass": 2},
    ):
        item = processor(row)
        assert torch.allclose(item["numbers"], torch.tensor([-1 / 14**0.5 * 3**0.5]))
        assert item["observed"].tolist() == [True]
        assert item["categories"].tolist() == [2, 3]  # gas solid; false true
    assert processor({"mass": -3.0, "phase": "plasma", "toxic": "maybe"})["categories"].tolist() == [1, 1]


@pytest.mark.parametrize("missing", [{}, *(dict.fromkeys(ROWS[0], cell) for cell in MISSING)])
def test_missing_cells(missing):
    processor = fitted([*ROWS, missing])
    assert processor.mean == fitted().mean == [3.0]
    item = processor(missing)
    assert item["numbers"].tolist() == [0]
    assert item["observed"].tolist() == [False]
    assert item["categories"].tolist() == [0, 0]


def test_any_case_of_true_and_false_and_bools_are_two_categories():
    processor = column(["TRUE", "False", True, np.False_, "tRuE"])
    assert processor.categories == {"x": {"false": 2, "true": 3}}
    assert categories_of(processor, "false", "TRUE", False, True, "T") == [2, 3, 2, 3, 1]


@pytest.mark.parametrize("bad", [math.inf, -math.inf, 1e300, np.float64(1e31), 10**400])
def test_infinity_and_huge_numbers_are_refused_in_any_column(bad):
    for processor in (column([1.0, 2.0]), column([1, 2], categorical=("x",))):
        with pytest.raises(SampleError, match=r"'x' holds finite numbers up to 1e\+30, found -?(inf|1e\+3|1000)"):
            processor({"x": bad})
    with pytest.raises(SampleError, match="'x' holds finite numbers"):
        column([1.0, bad])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"mass": "2.0", "phase": "gas", "toxic": "true"}, "'mass' holds numbers, found '2.0'"),
        ({"mass": True, "phase": "gas", "toxic": "true"}, "'mass' holds numbers, found True"),
        ({"mass": 2.0, "phase": 3, "toxic": "true"}, "'phase' holds categories, found the number 3"),
        ({"mass": 2.0, "phase": ["gas"], "toxic": "true"}, "'phase' holds strings, bools or numbers, found list"),
        ({"mass": 2.0, "phase": "gas", "toxic": datetime.date(2000, 1, 1)}, "'toxic' holds strings.* found date"),
        ({1: 2.0}, "a dict {column: cell}, found {1: 2.0}"),
        ([2.0, "gas", "true"], "a dict {column: cell}, found .2.0"),
        (None, "a dict {column: cell}, found None"),
    ],
)
def test_other_cells_and_rows_are_refused_with_what_was_found(row, expected):
    with pytest.raises(SampleError, match=expected):
        fitted()(row)


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        ([{"x": 1.0}, {"x": "many"}], {}, "mixes numbers, such as 1, with 'many'"),
        ([{"x": 1.0}, {"x": True}], {}, "mixes numbers, such as 1, with True"),
        ([{"code": 1}], {"categorical": ("kode",)}, "no column 'kode'.* Did you mean 'code'"),
        ([{}], {}, "needs a column with a value"),
        ([], {}, "needs a column with a value"),
        ([5], {}, "a dict {column: cell}, found 5"),
    ],
)
def test_training_splits_that_make_no_table_are_refused(rows, options, expected):
    with pytest.raises(DataError, match=expected):
        fitted(rows, **options)


def test_a_column_without_a_value_is_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="'empty' is dropped"):
        processor = fitted([{**row, "empty": None} for row in ROWS])
    assert len(processor({**ROWS[0], "empty": "something"})["categories"]) == 2


def test_an_extra_column_is_ignored_with_one_warning():
    processor, expected = fitted(), fitted()(ROWS[0])
    with pytest.warns(UserWarning, match="training did not have are ignored: colour, price"):
        item = processor({**ROWS[0], "colour": "red", "price": 3})
    assert all(tensor.equal(expected[key]) for key, tensor in item.items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(processor))({**ROWS[0], "price": 4})


def test_rare_categories_share_the_entry_of_unseen_ones():
    cells = ["a"] * 3 + ["b"] * 2 + ["c"]
    assert categories_of(column(cells, minimum_count=2), "a", "b", "c", "d", None) == [2, 3, 1, 1, 0]
    assert column(cells, minimum_count=4).sizes() == [2]


def test_numbers_that_are_codes():
    processor = column([10, 2.0, "2", 2.5, True], categorical=("x",))
    assert list(processor.categories["x"]) == ["10", "2", "2.5", "true"]
    assert categories_of(processor, 2, np.int64(10), np.float32(2.5), "10", 7) == [3, 2, 4, 2, 1]


@pytest.mark.parametrize("unit", [1.0, 1e-27, 1e20])
def test_standard_numbers_have_mean_0_and_deviation_1_in_any_unit(unit):
    cells = np.random.default_rng(0).lognormal(size=50)
    standardised = numbers_of(column(cells * unit), *(cells * unit))
    assert torch.allclose(standardised, torch.tensor((cells - cells.mean()) / cells.std()).float(), atol=1e-5)


def test_constant_columns_and_far_numbers_stay_finite():
    for options in ({}, {"numeric": "quantile"}):
        processor = column([0.1] * 7, **options)
        assert numbers_of(processor, 0.1).abs() < 1e-6  # not divided by rounding errors
        assert numbers_of(processor, 1e30, -1e30).isfinite().all()
    assert numbers_of(column([1.0, 1.0 + 1e-9]), 1e30, -1e30).tolist() == [1e4, -1e4]


def test_quantile_numbers_are_normal_whatever_the_distribution():
    cells = np.arange(1001) / 100
    ranks = (np.arange(1001) / 1000).clip(1e-3, 1 - 1e-3)
    normal = torch.tensor([NormalDist().inv_cdf(rank) for rank in ranks])
    expected = (normal / normal.std(correction=0)).float()
    for stretched in (cells, np.exp(cells), -1 / (1 + cells)):
        processor = column(stretched, numeric="quantile")
        assert torch.allclose(numbers_of(processor, *stretched), expected, atol=1e-4)
        assert numbers_of(processor, -1e9, 1e9).tolist() == pytest.approx([expected[0].item(), expected[-1].item()])


def test_tied_numbers_take_the_middle_of_their_ranks():
    processor = column([0.0] * 600 + [1.0] * 300 + [2.0] * 100, numeric="quantile")
    middles = [NormalDist().inv_cdf(rank) for rank in (0.3, 0.75, 0.95)]
    mean = np.average(middles, weights=[6, 3, 1])
    deviation = np.average((middles - mean) ** 2, weights=[6, 3, 1]) ** 0.5
    assert numbers_of(processor, 0, 1, 2).tolist() == pytest.approx(((middles - mean) / deviation).tolist(), abs=0.01)


def test_features_are_numbers_presence_and_one_place_a_category():
    processor = fitted()
    features = processor.features(processor({"mass": None, "phase": "solid", "toxic": "x"}))
    assert features.tolist() == [0, 0, *[0, 0, 0, 1], *[0, 1, 0, 0]]


def encode(processor, rows, **options):
    torch.manual_seed(0)
    encoder = TableEncoder(6, processor, **{"width": 16, "dropout": 0.0, **options}).double()
    tensors = processor.collate([processor(row) for row in rows])
    tensors["numbers"] = tensors["numbers"].double()
    return encoder(**tensors), encoder, tensors


def per_column(linear, values):
    """A linear layer per column: values [rows, columns, before]."""
    return torch.einsum("rcb,cba->rca", values, linear.weight) + linear.bias


@pytest.mark.parametrize("embedding", ["linear", "periodic", "piecewise"])
def test_a_number_is_embedded_by_the_documented_formula(embedding):
    rows = [{"x": float(cell), "y": float(cell) ** 2} for cell in range(1001)]
    tokens, encoder, tensors = encode(fitted(rows), rows[::7], embedding=embedding, layers=0)
    numbers, layer = tensors["numbers"][..., None], encoder.numeric
    if embedding == "linear":
        embedded = numbers * layer.weight + layer.bias
    elif embedding == "periodic":
        angles = 2 * math.pi * numbers * layer.frequencies
        embedded = per_column(layer.mix, torch.cat([angles.sin(), angles.cos()], -1)).relu()
    else:  # the number of bins below a number, the last of them as a fraction
        edges = np.linspace(0, 1000, 33).round()
        bins = [
            np.interp([row[name] for row in rows[::7]], edges**power, range(33)) for name, power in (("x", 1), ("y", 2))
        ]
        embedded = per_column(layer.mix, (torch.tensor(np.array(bins)).T[..., None] - torch.arange(32)).clamp(0, 1))
    expected = encoder.out(encoder.norm(embedded + encoder.column))
    assert torch.allclose(tokens.values, expected, atol=1e-5)


@pytest.mark.parametrize("embedding", ["linear", "periodic", "piecewise"])
@pytest.mark.parametrize("layers", [0, 2])
def test_the_content_of_a_missing_cell_reaches_neither_output_nor_gradient(embedding, layers):
    rows = [{"x": 1.3, "y": 2.3, "z": "a"}, {"x": None, "y": 5.3, "z": None}]
    training = [{"x": float(cell), "y": float(cell), "z": "a"} for cell in range(9)]
    expected, encoder, tensors = encode(fitted(training), rows, embedding=embedding, layers=layers)
    tensors["numbers"][1, 0] = torch.nan
    numbers = tensors["numbers"].requires_grad_()
    tokens = encoder(**tensors)
    assert tokens.values.equal(expected.values)
    tokens.values.square().sum().backward()
    assert numbers.grad[1, 0] == 0
    assert (numbers.grad[0] != 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    assert encoder.missing.grad[0].any()


def test_cells_see_each_other_through_layers_alone():
    rows = [{"x": 1.0, "y": 2.0, "z": "a"}, {"x": 1.0, "y": 3.0, "z": "a"}]
    for layers, expected in ((0, [False, True, False]), (1, [True, True, True])):
        first, second = encode(fitted(rows), rows, layers=layers)[0].values
        assert (first != second).any(1).tolist() == expected


def test_tokens_are_the_columns_and_equal_cells_of_two_columns_differ():
    rows = [{"x": 1.0, "y": 1.0, "a": "k", "b": "k"}, {"x": 3.0, "y": 3.0, "a": "m", "b": "m"}]
    tokens, encoder, _ = encode(fitted(rows), rows, layers=0)
    entries = encoder.category[[2, 6]] + encoder.column[2:]  # missing, unseen, k and m of column a, then those of b
    assert torch.allclose(tokens.values[0, 2:], encoder.out(encoder.norm(entries)))
    assert tokens.unit.tolist() == [[0, 1, 2, 3]] * 2
    assert tokens.mask.all()
    assert torch.cdist(tokens.values[0], tokens.values[0]).add(torch.eye(4)).min() > 1e-3
    unseen, missing = encode(fitted(rows), [{**rows[0], "a": cell} for cell in ("new", None)], layers=0)[0].values
    assert unseen.equal(missing)  # both start neutral


@pytest.mark.parametrize("cell", [2.0, "a"])
@pytest.mark.parametrize("embedding", ["linear", "periodic", "piecewise"])
def test_tables_of_numbers_alone_and_of_categories_alone(cell, embedding):
    rows = [{"x": cell}, {"x": None}]
    tokens = encode(fitted(rows), rows, embedding=embedding)[0]
    assert tokens.values.shape == (2, 1, 6)
    assert tokens.values.isfinite().all()
