"""Tests of graphs: atoms and bonds, dicts, errors, and message passing against its formula."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import layer_norm

from encoders.graph import GraphEncoder, GraphProcessor
from mmbert.contracts import Field
from mmbert.data.sources.files import FilesSource
from mmbert.errors import DataError, SampleError

HEXAGON = {"nodes": ["C"] * 6, "edges": [[i, (i + 1) % 6] for i in range(6)]}
TRIANGLES = {"nodes": ["C"] * 6, "edges": [[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3]]}
MIXED = {
    "nodes": [["C", 1.0, True], ["N", 3.0, False], ["C", 5.0, True], ["O", 7.0, False]],
    "edges": [[0, 1], [1, 2], [3, 3], [2, 0]],
    "edge_features": [["single", 0.5], ["double", 1.5], ["loop", 2.5], ["single", 3.5]],
}


def fitted(*graphs, **options):
    processor = GraphProcessor(**options)
    processor.fit(graphs)
    return processor


def encode(processor, *graphs, **options):
    """Tokens of the graphs from an encoder in float64 without dropout, and that encoder."""
    torch.manual_seed(0)
    encoder = GraphEncoder(8, processor, **{"layers": 2, "width": 16, "dropout": 0.0, **options}).double()
    return encoder(**collated(processor, *graphs)), encoder


def collated(processor, *graphs):
    tensors = processor.collate([processor(graph) for graph in graphs])
    return {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def permuted(graph, order):
    """The same graph with its nodes in another order: new node i is old node order[i]."""
    place = {old: new for new, old in enumerate(order)}
    edges = [[place[source], place[target]] for source, target in graph["edges"]]
    return {**graph, "nodes": [graph["nodes"][old] for old in order], "edges": edges}


def test_atoms_and_bonds_of_known_molecules():
    # atomic number, degree, formal charge + 6, hydrogens, hybridisation (3 SP2, 4 SP3), aromatic, in a ring, chirality
    carboxyl = GraphProcessor()("C[N+](C)(C)CC(=O)[O-]")  # betaine
    atoms = dict(enumerate(carboxyl["nodes"].tolist()))
    assert atoms[0] == [6, 4, 6, 3, 4, 0, 0, 0]
    assert atoms[1] == [7, 4, 7, 0, 4, 0, 0, 0]
    assert atoms[6] == [8, 1, 6, 0, 3, 0, 0, 0]
    assert atoms[7] == [8, 1, 5, 0, 3, 0, 0, 0]
    bonds = dict(zip(map(tuple, carboxyl["edges"].T.tolist()), carboxyl["edge_features"].tolist(), strict=True))
    assert bonds[5, 6] == bonds[6, 5] == [2, 1, 0, 0]  # double, conjugated
    assert bonds[0, 1] == [1, 0, 0, 0]
    assert len(bonds) == 14
    benzene = GraphProcessor()("c1ccccc1")
    assert benzene["nodes"].tolist() == [[6, 3, 6, 1, 3, 1, 1, 0]] * 6
    assert benzene["edge_features"].tolist() == [[4, 1, 1, 0]] * 12
    left, right = (GraphProcessor()(f"N[C{turn}H](C)C(=O)O")["nodes"][1, 7].item() for turn in ("@", "@@"))
    assert {left, right} == {1, 2}  # the chirality of the two alanines
    trans, cis = (GraphProcessor()(f"F/C=C{slash}F")["edge_features"][2, 3].item() for slash in ("/", "\\"))
    assert trans != cis  # stereo of the double bond


@pytest.mark.parametrize("smiles", ["C1CC", "not a molecule", "c1ccc1c(", "C(C)(C)(C)(C)C", "\ud800"])
def test_invalid_smiles_are_refused_by_their_name(smiles):
    with pytest.raises(SampleError, match="expected a molecule as SMILES") as caught:
        GraphProcessor()(smiles)
    assert repr(smiles) in str(caught.value)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"nodes": ["a", "b"], "edges": [[0, 1], [1, 2]]}, r"edge \[1, 2\] points outside the 2 nodes"),
        ({"nodes": ["a", "b"], "edges": [[-1, 0]]}, r"edge \[-1, 0\] points outside"),
        ({"nodes": ["a"], "edges": [[0, 10**30]]}, "points outside the 1 nodes"),
        ({"nodes": ["a"], "edges": [[0, 0.0]]}, r"pairs of node numbers, found \[0, 0.0\]"),
        ({"nodes": ["a"], "edges": [[0]]}, r"pairs of node numbers, found \[0\]"),
        ({"nodes": ["a"], "edges": [0]}, "pairs of node numbers"),
        ({"nodes": ["a"], "edges": 0}, "the edges of a graph as a list, found int"),
        ({"nodes": None}, "the nodes of a graph as a list, found NoneType"),
        ({"node": ["a"]}, "no entry 'node'. Did you mean 'nodes'"),
        ({"nodes": ["a"], "edges": [[0, 0]], "edge_features": [1, 2]}, "features for each of 1 edges, found 2"),
    ],
)
def test_malformed_graphs_are_refused_with_what_was_found(graph, expected):
    for read in (fitted({"nodes": ["a"]}), fitted):
        with pytest.raises(SampleError, match=expected):
            read(graph)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"nodes": [1.5]}, "expected a label.*found 1.5"),
        ({"nodes": [["a", "b"]]}, "expected 1 fields for every node, as in training, found 2"),
        ({"nodes": ["a"] * 9}, "up to 8 nodes .max_nodes., found 9"),
        ("CCO", "a dict of nodes and edges, as in training, found str"),
    ],
)
def test_graphs_unlike_those_of_the_training_split_are_refused(graph, expected):
    with pytest.raises(SampleError, match=expected):
        fitted({"nodes": ["a"]}, max_nodes=8)(graph)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300, 10**400, "2.0"])
def test_bad_numbers_of_a_node_are_refused(number):
    with pytest.raises(SampleError, match="in this field of every node"):
        fitted({"nodes": [1.0, 2.0]})({"nodes": [number]})


def test_a_training_split_is_of_one_kind_and_shape():
    for graphs in ([], ["CC", MIXED], [{"nodes": [["a", 1]]}, {"nodes": ["a"]}]):
        with pytest.raises(DataError):
            fitted(*graphs)


def test_fields_are_labels_or_standardised_numbers():
    processor = fitted(MIXED)
    item = processor(MIXED)
    assert item["nodes"].tolist() == [[1, 2], [2, 1], [1, 2], [3, 1]]  # C N O and False True, from 1
    standard = (torch.tensor([1.0, 3, 5, 7]) - 4) / 5**0.5
    assert torch.allclose(item["node_values"][:, 0], standard)
    new = processor({"nodes": [["Xe", 4.0, True], ["Kr", 4, False]]})
    assert new["nodes"].tolist() == [[0, 2], [0, 1]]  # unseen labels share an index
    assert (new["node_values"] == 0).all()
    assert fitted({"nodes": [7, 12, "7"]})({"nodes": [12, 7, np.int64(7)]})["nodes"].tolist() == [[1], [2], [2]]
    constant = fitted({"nodes": [0.1, 0.1, 0.1]})({"nodes": [0.1, 0.2, 1e20]})["node_values"][:, 0]
    assert torch.allclose(constant, torch.tensor([0.0, 0.1, 1e4]), atol=1e-6)  # not divided by rounding errors


def test_edges_run_both_ways_once_and_self_loops_stay():
    graph = {"nodes": ["a", "b", "c"], "edges": [[0, 1], [1, 0], [0, 1], [2, 2]]}
    assert sorted(fitted(graph)(graph)["edges"].T.tolist()) == [[0, 1], [1, 0], [2, 2]]
    double = {**graph, "edge_features": ["x", "x", "y", "x"]}  # parallel edges that differ are two
    item = fitted(double)(double)
    edges = torch.cat([item["edges"].T, item["edge_features"]], 1).tolist()
    assert sorted(edges) == [[0, 1, 1], [0, 1, 2], [1, 0, 1], [1, 0, 2], [2, 2, 1]]
    item = fitted(MIXED)(MIXED)
    for source, target, value in zip(*item["edges"].tolist(), item["edge_values"][:, 0].tolist(), strict=True):
        standard = (np.array([0.5, 1.5, 2.5, 3.5]) - 2) / 1.25**0.5
        place = [sorted(edge) for edge in MIXED["edges"]].index(sorted([source, target]))
        assert value == pytest.approx(standard[place])


def test_lists_as_parquet_gives_them_are_the_same_graph():
    arrays = {}
    for key, rows in MIXED.items():
        arrays[key] = np.empty(len(rows), dtype=object)
        arrays[key][:] = [np.array(row, dtype=object if key != "edges" else None) for row in rows]
    expected = fitted(MIXED)(MIXED)
    assert all(tensor.equal(expected[key]) for key, tensor in fitted(MIXED)(arrays).items())


def test_nothing_to_read_is_absent_and_no_edge_is_fine():
    assert GraphProcessor()("") == {}
    processor = fitted(MIXED, walk=2)
    assert processor({"nodes": [], "edges": []}) == processor({}) == {}
    lonely = {"nodes": MIXED["nodes"][:2]}
    assert (processor(lonely)["node_values"][:, 1:] == 0).all()  # a walk that cannot leave does not return
    for graphs in ([lonely], [lonely, MIXED]):
        tokens, _ = encode(processor, *graphs)
        assert tokens.values.isfinite().all()
        assert tokens.mask[0, :2].all()
    assert encode(GraphProcessor(), "C", "[Na+].[Cl-]")[0].values.isfinite().all()


@pytest.mark.parametrize("virtual_node", [False, True])
def test_nodes_in_another_order_have_the_same_tokens(virtual_node):
    processor, order = fitted(MIXED, walk=3), [2, 0, 3, 1]
    tokens, _ = encode(processor, MIXED, permuted(MIXED, order), virtual_node=virtual_node)
    assert torch.allclose(tokens.values[1], tokens.values[0, order], atol=1e-12)
    assert torch.cdist(tokens.values[0], tokens.values[0]).add(torch.eye(4)).min() > 1e-3
    first, second = (processor.features(processor(graph)) for graph in (MIXED, permuted(MIXED, order)))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_walks_tell_a_hexagon_from_two_triangles():
    plain, walking = fitted(HEXAGON), fitted(HEXAGON, walk=3)
    six, three = encode(plain, HEXAGON, TRIANGLES)[0].values
    assert torch.allclose(six, three, atol=1e-12)
    assert np.array_equal(*(plain.features(plain(graph)) for graph in (HEXAGON, TRIANGLES)))
    six, three = encode(walking, HEXAGON, TRIANGLES)[0].values
    assert (six - three).abs().amax(1).min() > 1e-3
    # back after 1, 2, 3 steps: a triangle is closed by a quarter of the walks of 3 steps
    assert walking(HEXAGON)["node_values"].tolist() == [[0, 0.5, 0]] * 6
    assert walking(TRIANGLES)["node_values"].tolist() == [[0, 0.5, 0.25]] * 6


def test_messages_come_from_connected_nodes_within_as_many_steps_as_layers():
    path = {"nodes": ["a"] * 6, "edges": [[i, i + 1] for i in range(5)]}
    relabelled = {**path, "nodes": ["b", *["a"] * 5]}
    processor = fitted(path, relabelled)
    for layers in (1, 3):
        before, after = encode(processor, path, relabelled, layers=layers)[0].values
        assert (before != after).any(1).tolist() == [node <= layers for node in range(6)]
        before, after = encode(processor, path, relabelled, layers=layers, virtual_node=True)[0].values
        assert (before != after).any(1).all()


def test_rare_labels_of_graphs_move_farther_than_atoms_in_a_step_of_adam():
    moved = {}
    for kind, value in (("labels", {"nodes": [f"part {number}" for number in range(300)]}), ("atoms", "CCO")):
        tokens, encoder = encode(fitted(value), value)
        before = encoder.embed.scale * encoder.embed.table.detach().clone()
        assert before.std() == pytest.approx((1 + len(fitted(value).node_fields)) ** -0.5, rel=0.1)
        optimizer = torch.optim.Adam([encoder.embed.table], lr=1e-3)
        tokens.values.square().sum().backward()
        optimizer.step()
        moved[kind] = (encoder.embed.scale * encoder.embed.table - before).abs().max().item()
    assert moved == pytest.approx({"labels": 0.05, "atoms": 0.001}, rel=1e-3)


@pytest.mark.parametrize("virtual_node", [False, True])
def test_layers_equal_the_documented_formula(virtual_node):
    processor = fitted(MIXED, walk=2)
    tokens, encoder = encode(processor, MIXED, virtual_node=virtual_node)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    item = {key: tensor[0] for key, tensor in collated(processor, MIXED).items()}

    def embedded(embed, indices, numbers):
        rows = []
        for row, values in zip(indices.tolist(), numbers, strict=True):
            places = [int(start) + label for start, label in zip(embed.first[1:], row, strict=True)]
            labels = embed.table[0] + sum(embed.table[place] for place in places)
            rows.append(embed.scale * labels + values @ embed.numbers)
        return torch.stack(rows)

    def normed(norm, values):
        return layer_norm(values, values.shape[-1:], norm.weight, norm.bias)

    state = embedded(encoder.embed, item["nodes"], item["node_values"])
    total = state
    for index, convolution in enumerate(encoder.convolutions):
        assert convolution.eps != 0  # it is a parameter, and was changed above
        old = normed(encoder.norms[index], state)
        edges = embedded(encoder.embed_edges[index], item["edge_features"], item["edge_values"])
        update = []
        for node in range(4):
            arriving = (1 + convolution.eps) * old[node]
            for (source, target), edge in zip(item["edges"].T.tolist(), edges, strict=True):
                if target == node:
                    arriving = arriving + (old[source] + edge).relu()
            read = encoder.reads[index](old.mean(0)) if virtual_node else 0.0
            update.append(convolution.nn(arriving) + read)
        state = state + torch.stack(update)
        total = total + state
    expected = encoder.out(normed(encoder.norm, total))
    assert torch.allclose(encoder(**collated(processor, MIXED)).values[0], expected, atol=1e-10)
    assert not torch.allclose(expected, tokens.values[0], atol=1e-2)


def test_what_a_masked_node_or_edge_holds_is_not_read():
    larger = {"nodes": MIXED["nodes"][:1] * 6, "edges": HEXAGON["edges"], "edge_features": [["single", 0.5]] * 6}
    processor = fitted(MIXED, larger)
    batch = collated(processor, MIXED, larger)
    _, encoder = encode(processor, MIXED)
    expected = encoder(**batch).values
    batch["nodes"][0, 4:] = 10**6
    batch["node_values"][0, 4:] = torch.nan
    batch["edge_features"][0][batch["edges"][0, 0] < 0] = 10**6
    wider = {"edges": torch.nn.functional.pad(batch["edges"], (0, 2), value=-1)}
    for key, value in (("edge_features", 10**6), ("edge_values", torch.nan)):
        wider[key] = torch.nn.functional.pad(batch[key], (0, 0, 0, 2), value=value)
    tokens = encoder(**{**batch, **wider})
    assert tokens.values.equal(expected)
    assert tokens.unit.tolist() == [[0, 1, 2, 3, -1, -1], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    "graph",
    [
        {"nodes": [["C", 0.5], ["N", 1.0]], "edges": [[0, 1]]},
        {"nodes": [[6, 0.5], [7, 1]], "edges": []},
        {"nodes": ["a", "b"], "edges": [[0, 1]], "edge_features": [["x", 0.5]]},
    ],
)
def test_json_text_is_read_as_the_graph(graph):
    from_dict, from_text = GraphProcessor(), GraphProcessor()
    from_dict.fit([graph])
    from_text.fit([json.dumps(graph)])
    assert from_text.node_fields == from_dict.node_fields
    assert all(tensor.equal(from_dict(graph)[name]) for name, tensor in from_text(json.dumps(graph)).items())


@pytest.mark.parametrize("text", ['{"nodes": ', "{nodes: [1]}", '{"nodes": [1]]}'])
def test_json_text_that_is_broken_is_refused(text):
    with pytest.raises(SampleError, match="expected a graph as SMILES or JSON"):
        GraphProcessor()(text)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
@pytest.mark.parametrize("fields", [["C", 6, 0.5], [6, 0.5], ["C", 1.5]])
def test_mixed_fields_pass_through_files(tmp_path, monkeypatch, name, fields):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    graph = {"nodes": [fields, fields], "edges": [[0, 1]]}
    frame = pd.DataFrame({"graph": [graph if name.endswith("jsonl") else json.dumps(graph)] * 3})
    match name.rpartition(".")[2]:
        case "jsonl":
            frame.to_json(tmp_path / name, orient="records", lines=True)
        case "csv":
            frame.to_csv(tmp_path / name, index=False)
        case "parquet":
            frame.to_parquet(tmp_path / name)
    source = FilesSource("shop", {"graph": Field("graph", GraphProcessor)}, {}, path=str(tmp_path / name))
    samples = [sample for split in ("train", "validation", "test") for sample in source.split(split)]
    processor = GraphProcessor()
    processor.fit([sample.inputs["graph"] for sample in samples])
    assert ["known" in field for field in processor.node_fields] == [not isinstance(cell, float) for cell in fields]
