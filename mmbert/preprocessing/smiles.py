"""A SMILES string as a graph of atoms and bonds."""

from functools import lru_cache

import numpy as np

from mmbert.errors import SampleError

# atomic number, degree, formal charge, hydrogens, hybridisation, aromatic, in a ring, chirality
ATOM = (119, 12, 13, 9, 9, 2, 2, 4)
# type, conjugated, in a ring, stereo
BOND = (5, 2, 2, 6)


@lru_cache(maxsize=16_384)  # about 2 kB each; every epoch asks again
def molecule(smiles: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms [nodes, 8], bonds [edges, 2] in both directions and their features [edges, 4], all int32.

    The fields, whose sizes are ATOM and BOND, are those of the Open Graph Benchmark (Hu et al. 2020). An atom is
    numbered by its place in the string. The arrays are shared, to be read only. Raises SampleError, with the
    string, where it is no valid SMILES.
    """
    from rdkit import Chem, rdBase  # takes a second: at first use

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles.encode("utf-8", "replace").decode())  # a lone surrogate
    if molecule is None:
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
        for atom in molecule.GetAtoms()
    ]
    types = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)
    kinds = {kind: index for index, kind in enumerate(types, start=1)}
    edges, bonds = [], []
    for bond in molecule.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        edges += [ends, ends[::-1]]
        fields = kinds.get(bond.GetBondType(), 0), bond.GetIsConjugated(), bond.IsInRing(), int(bond.GetStereo())
        bonds += [fields, fields]
    nodes = np.array(atoms, dtype=np.int64).reshape(-1, len(ATOM)).clip(0, np.array(ATOM) - 1)
    features = np.array(bonds, dtype=np.int64).reshape(-1, len(BOND)).clip(0, np.array(BOND) - 1)
    arrays = [part.astype(np.int32) for part in (nodes, np.array(edges).reshape(-1, 2), features)]
    for array in arrays:
        array.flags.writeable = False
    return arrays[0], arrays[1], arrays[2]
