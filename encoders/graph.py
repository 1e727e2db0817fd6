"""Graphs: molecules as SMILES or any labelled nodes and edges, encoded by message passing, one token per node."""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Interval
from einops import rearrange
from torch import Tensor, nn

from mmbert.contracts import Encoder, Processor
from mmbert.errors import DataError, SampleError, nearest
from mmbert.layers.embeddings import FieldEmbedding
from mmbert.layers.masked import pad_and_stack
from mmbert.preprocessing.smiles import ATOM_FIELD_SIZES, BOND_FIELD_SIZES, parse_smiles
from mmbert.preprocessing.synthetic import tree
from mmbert.preprocessing.tabular import FieldStatistics, apply_fields, fit_fields
from mmbert.types import Tokens

KEYS = ("nodes", "edges", "edge_features")
BUCKETS = 512  # hash buckets of the Weisfeiler-Lehman features


class GraphProcessor(Processor):
    """Turns a SMILES string, or a dict of ``nodes``, ``edges`` and ``edge_features``, into index tensors.

    The dict may be written as JSON text, as in a CSV file.

    Atoms have the fields atomic number, degree, formal charge, hydrogens, hybridisation, aromaticity, ring and
    chirality; bonds have type, conjugation, ring and stereo (see mmbert.preprocessing.smiles). In a dict ``nodes`` is a
    list with a label or a list of fields per node; ``edges`` is a list of pairs [i, j] of node numbers (default none);
    ``edge_features`` has a label or a list of fields per edge. ``fit`` determines the type of each field: strings, ints
    or bools are categorical (labels not seen in training share one index), floats are standardised. Edges are
    undirected; duplicates count once; self loops are allowed.

    Tensors of one graph: ``nodes`` [nodes, categorical fields] int64; ``node_values`` [nodes, numeric fields and
    walk] float32; ``edges`` [2, edges] int64, sources and targets; ``edge_features`` [edges, categorical fields] int64;
    ``edge_values`` [edges, numeric fields] float32. ``collate`` pads them (``edges`` with -1) and adds ``mask``
    [present, nodes]. A graph without nodes is absent.

    Args:
        walk: number of random walk features: the probabilities that a walk of 1 .. walk steps ends where it began, as
            further node values (Dwivedi et al. 2022). They distinguish graphs that message passing cannot.
        max_nodes: maximum number of nodes; larger graphs are refused.

    Raises:
        SampleError: from a call, for invalid SMILES, edges to missing nodes, wrong lengths or types.
        DataError: from ``fit``, if the training split has no graph, or both SMILES strings and dicts.

    Example:
        >>> {name: list(tensor.shape) for name, tensor in GraphProcessor()("CCO").items()}
        {'nodes': [3, 8], 'node_values': [3, 0], 'edges': [2, 4], 'edge_features': [4, 4], 'edge_values': [4, 0]}
    """

    reads_fields = True
    example_with_bit = staticmethod(tree)

    def __init__(self, *, walk: Annotated[int, Ge(0)] = 0, max_nodes: Annotated[int, Ge(1)] = 1000):
        self.walk = walk
        self.max_nodes = max_nodes
        self.node_fields: list[FieldStatistics] = [{"size": size} for size in ATOM_FIELD_SIZES]
        self.edge_fields: list[FieldStatistics] = [{"size": size} for size in BOND_FIELD_SIZES]
        self.molecules = True

    def fit(self, values: Iterable[str | Mapping[str, Any]]) -> None:
        kinds, graphs = set[bool](), []
        for value in map(_read_json, values):
            kinds.add(isinstance(value, str))
            if not isinstance(value, str):
                graphs.append(_parts(value))
        if len(kinds) != 1:
            raise DataError("graphs must be all SMILES strings or all dicts, with one or more in the training split")
        self.molecules = kinds.pop()
        if not self.molecules:
            self.node_fields = fit_fields("node", [row for nodes, _, _ in graphs for row in nodes])
            self.edge_fields = fit_fields("edge", [row for _, _, features in graphs for row in features])

    def __call__(self, value: str | Mapping[str, Any], rng: np.random.Generator | None = None) -> dict[str, Tensor]:
        value = _read_json(value)
        if isinstance(value, str) != self.molecules:
            expected = "a SMILES string" if self.molecules else "a dict of nodes and edges"
            raise SampleError(f"expected a graph as {expected}, as in training, found {type(value).__name__}")
        if isinstance(value, str):
            nodes, edges, features = parse_smiles(value)
            node_values, edge_values = np.zeros((len(nodes), 0)), np.zeros((len(edges), 0))
        else:
            node_rows, edges, edge_rows = _parts(value)
            nodes, node_values = apply_fields("node", self.node_fields, node_rows)
            features, edge_values = apply_fields("edge", self.edge_fields, edge_rows)
        if not len(nodes):
            return {}
        if len(nodes) > self.max_nodes:
            raise SampleError(f"expected a graph of up to {self.max_nodes} nodes (max_nodes), found {len(nodes)}")
        if not isinstance(value, str):  # a molecule's bonds are already unique and in both directions
            both = np.concatenate([edges, edges[:, ::-1]]), np.tile(features, (2, 1)), np.tile(edge_values, (2, 1))
            distinct = np.sort(np.unique(np.concatenate(both, 1), axis=0, return_index=True)[1])
            edges, features, edge_values = (part[distinct] for part in both)
        if self.walk:
            node_values = np.concatenate([node_values, _return_probabilities(len(nodes), edges, self.walk)], 1)
        return {
            "nodes": torch.tensor(nodes, dtype=torch.int64),
            "node_values": torch.tensor(node_values, dtype=torch.float32),
            "edges": torch.tensor(edges.T, dtype=torch.int64),
            "edge_features": torch.tensor(features, dtype=torch.int64),
            "edge_values": torch.tensor(edge_values, dtype=torch.float32),
        }

    def collate(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        masks = [item.get("mask", torch.ones(len(item["nodes"]), dtype=torch.bool)) for item in items]
        names = ("nodes", "node_values", "edge_features", "edge_values")
        padded = {name: pad_and_stack([item[name] for item in items]) for name in names}
        return {
            **padded,
            "edges": pad_and_stack([item["edges"] for item in items], -1),
            "mask": pad_and_stack(masks, False),
        }

    def features(self, item: dict[str, Tensor]) -> np.ndarray:
        """Features of a graph for the linear baselines, in this order.

        First log(1 + count) of each hash bucket of Weisfeiler-Lehman subtrees up to radius 2 (Shervashidze et al.
        2011), then the mean of each node value over the nodes.

        Args:
            item: of one graph, collated or not.
        """
        real = item["mask"] if "mask" in item else slice(None)
        edges, rows = item["edges"].T.tolist(), item["edge_features"].numpy()
        incoming_edges: list[list[tuple[int, bytes]]] = [[] for _ in range(len(item["nodes"]))]  # of each node
        for (source, target), row in zip(edges, rows, strict=True):
            if source >= 0:
                incoming_edges[target].append((source, row.tobytes()))
        labels = [_digest(row.tobytes()) for row in item["nodes"][real].numpy()]
        counts = np.zeros(BUCKETS)
        for radius in range(3):
            if radius:
                labels = [
                    _digest(b"".join([label, *sorted(bond + labels[source] for source, bond in incoming)]))
                    for label, incoming in zip(labels, incoming_edges[: len(labels)], strict=True)
                ]
            np.add.at(counts, [int.from_bytes(label, "little") % BUCKETS for label in labels], 1)
        return np.concatenate([np.log1p(counts), item["node_values"][real].numpy().mean(0)])

    @classmethod
    def example(cls, rng: np.random.Generator) -> str:
        return "C" + "".join(rng.choice(["C", "N", "O", "C(=O)", "c1ccccc1"], size=rng.integers(1, 8)))


def _read_json(value: Any) -> Any:
    """The value, or the dict of which it is the JSON text."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"expected a graph as SMILES or JSON, found {value[:60]!r}: {error}") from error


def _parts(value: Mapping[str, Any]) -> tuple[list[list], np.ndarray, list[list]]:
    """The fields of each node, the edges [edges, 2], and the fields of each edge, from a graph given as a dict."""
    if not isinstance(value, Mapping):
        raise SampleError(f"expected a graph as a SMILES string or a dict, found {type(value).__name__}")
    for key in value:
        if key not in KEYS:
            raise SampleError(f"a graph has no entry '{key}'. {nearest(str(key), KEYS)}")
        if not _is_list(value[key]):
            raise SampleError(f"expected the {key} of a graph as a list, found {type(value[key]).__name__}")
    nodes, edges = ([_row(row) for row in value.get(key, ())] for key in ("nodes", "edges"))
    for edge in edges:
        if len(edge) != 2 or not all(isinstance(end, int | np.integer) for end in edge):
            raise SampleError(f"expected edges as pairs of node numbers, found {str(edge)[:80]}")
        if not all(0 <= end < len(nodes) for end in edge):
            raise SampleError(f"edge [{edge[0]}, {edge[1]}] points outside the {len(nodes)} nodes, counted from 0")
    features = [_row(row) for row in value.get("edge_features", [()] * len(edges))]
    if len(features) != len(edges):
        raise SampleError(f"expected features for each of {len(edges)} edges, found {len(features)}")
    return nodes, np.array(edges, dtype=np.int64).reshape(-1, 2), features


def _row(fields: Any) -> list:
    return list(fields) if _is_list(fields) else [fields]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def _return_probabilities(size: int, edges: np.ndarray, walk: int) -> np.ndarray:
    """The probability that a random walk of 1 .. ``walk`` steps ends at the node where it began: [size, walk]."""
    adjacency = np.zeros((size, size))
    adjacency[edges[:, 0], edges[:, 1]] = 1.0
    step = adjacency / adjacency.sum(1, keepdims=True).clip(min=1.0)
    power, probabilities = np.eye(size), []
    for _ in range(walk):
        power = power @ step
        probabilities.append(power.diagonal())
    return np.stack(probabilities, 1)


class GraphEncoder(Encoder):
    """Message passing over edges with features (GINE), one token per node.

    Each layer is h + dropout(MLP((1 + eps) h' + sum over edges of relu(h'_source + edge))), where h' is LayerNorm(h);
    the output is a map of the sum over all layers (jumping knowledge). Graphs of a batch do not interact.

    Args:
        dim: width of the output tokens.
        processor: the fitted processor of the input; gives the fields of nodes and edges.
        layers: number of message passing layers.
        width: width of the node states.
        virtual_node: whether each layer also adds a linear map of the mean over the graph's nodes, a shortcut between
            distant nodes (Gilmer et al. 2017).
        dropout: dropout rate of each layer's update.

    Shape:
        The result of ``GraphProcessor.collate`` -> Tokens [present, nodes, dim]; ``unit`` is the number of the node in
        its graph, for a molecule the atom's place in the SMILES string.

    Reference:
        Hu et al. 2020 (GINE); Xu et al. 2018 (jumping knowledge).

    Example:
        >>> processor = GraphProcessor()
        >>> tensors = processor.collate([processor("CCO"), processor("c1ccccc1")])
        >>> GraphEncoder(16, processor)(**tensors).values.shape
        torch.Size([2, 6, 16])
    """

    processor = GraphProcessor

    def __init__(
        self,
        dim: int,
        processor: GraphProcessor,
        *,
        layers: Annotated[int, Ge(1)] = 4,
        width: Annotated[int, Ge(1)] = 128,
        virtual_node: bool = False,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ):
        super().__init__()
        with warnings.catch_warnings():  # importing torch_geometric takes seconds and warns about its use of torch.jit
            warnings.simplefilter("ignore")
            from torch_geometric.nn import GINEConv
        # users' labels are many and mostly rare: the scale lets Adam move their embeddings enough, see FieldEmbedding
        scale = 1.0 if processor.molecules else 50.0
        self.embed = FieldEmbedding(processor.node_fields, width, values=processor.walk, scale=scale)
        self.embed_edges = nn.ModuleList(FieldEmbedding(processor.edge_fields, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        mlps = [nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)) for _ in self.norms]
        self.convolutions = nn.ModuleList(GINEConv(mlp, train_eps=True) for mlp in mlps)
        self.reads = nn.ModuleList(nn.Linear(width, width) for _ in range(layers if virtual_node else 0))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        nodes: Tensor,
        node_values: Tensor,
        edges: Tensor,
        edge_features: Tensor,
        edge_values: Tensor,
        mask: Tensor,
    ) -> Tokens:
        # concatenate the real nodes of all graphs and shift the edges' node numbers accordingly
        graph, place = mask.nonzero(as_tuple=True)
        sizes = mask.sum(1)
        first = sizes.cumsum(0) - sizes
        is_real_edge = edges[:, 0] >= 0  # the others are padding
        ends = rearrange(edges + first[:, None, None], "present end edges -> end present edges")[:, is_real_edge]
        edge_features, edge_values = edge_features[is_real_edge], edge_values[is_real_edge]

        state = self.embed(nodes[mask], node_values[mask])
        layer_sum = state
        layers = zip(self.convolutions, self.norms, self.embed_edges, strict=True)
        for index, (convolution, norm, embed) in enumerate(layers):
            normed = norm(state)
            update = convolution(normed, ends, embed(edge_features, edge_values))
            if self.reads:
                graph_sum = normed.new_zeros(len(mask), normed.shape[1]).index_add(0, graph, normed)
                update = update + self.reads[index](graph_sum / sizes.clamp(min=1)[:, None])[graph]
            state = state + self.dropout(update)
            layer_sum = layer_sum + state
        values = self.out(self.norm(layer_sum))
        dense = values.new_zeros(*mask.shape, values.shape[1]).index_put((graph, place), values)
        unit = torch.where(mask, torch.arange(mask.shape[1], device=mask.device), -1)
        return Tokens(dense, mask, unit)
