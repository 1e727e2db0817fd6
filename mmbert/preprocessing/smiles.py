"""Parsing of SMILES strings into graphs of atoms and bonds."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mmbert.errors import SampleError

# atomic number, degree, formal charge, hydrogens, hybridisation, aromatic, in a ring, chirality
ATOM_FIELD_SIZES = (119, 12, 13, 9, 9, 2, 2, 4)
# type, conjugated, in a ring, stereo
BOND_FIELD_SIZES = (5, 2, 2, 6)


@lru_cache(maxsize=16_384)  # about 2 kB each; reused in every epoch
def parse_smiles(smiles: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parse a SMILES string: atoms [nodes, 8], bonds [edges, 2] in both directions, features [edges, 4], all int32.

    The fields are those of the Open Graph Benchmark; their sizes are ``ATOM_FIELD_SIZES`` and ``BOND_FIELD_SIZES``.
    Atoms are numbered by their position in the string. The arrays are cached and read-only.

    Args:
        smiles: the SMILES string of one molecule.

    Raises:
        SampleError: if the string is not valid SMILES. The message quotes it.

    Reference:
        Hu et al. 2020, "Open Graph Benchmark: datasets for machine learning on graphs".
    """
    from rdkit import Chem, rdBase  # imported on first use: it takes a second

    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles.encode("utf-8", "replace").decode())  # RDKit cannot take a lone surrogate
    if parsed is None:
        raise SampleError(f"expected a molecule as SMILES, found {smiles[:200]!r}")
    atoms = [
        (
            atom.GetAtomicNum(),
            atom.GetTotalDegree(),
            atom.GetFormalCharge() + 6,
            atom.GetTotalNumHs(),
            int(atom.GetHybridization()),
            atom.GetIsAromatic(),
            atom.IsInRing(),
            int(atom.GetChiralTag()),
        )
        for atom in parsed.GetAtoms()
    ]
    types = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)
    kinds = {kind: index for index, kind in enumerate(types, start=1)}
    edges, bonds = [], []
    for bond in parsed.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        edges += [ends, ends[::-1]]
        fields = kinds.get(bond.GetBondType(), 0), bond.GetIsConjugated(), bond.IsInRing(), int(bond.GetStereo())
        bonds += [fields, fields]
    nodes, features = _clip_rows(atoms, ATOM_FIELD_SIZES), _clip_rows(bonds, BOND_FIELD_SIZES)
    arrays = [array.astype(np.int32) for array in (nodes, np.array(edges).reshape(-1, 2), features)]
    for array in arrays:
        array.flags.writeable = False
    return arrays[0], arrays[1], arrays[2]


def _clip_rows(rows: Sequence[tuple], sizes: tuple[int, ...]) -> np.ndarray:
    """Rows of fields as int64 [rows, fields], each field clipped to its number of values."""
    return np.array(rows, dtype=np.int64).reshape(-1, len(sizes)).clip(0, np.array(sizes) - 1)
