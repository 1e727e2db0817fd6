"""Molecules with names, structure, descriptors and measured properties, from the tables of ``chemicals`` and RDKit."""

import gzip
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import pandas as pd
from annotated_types import Ge, MinLen

from mmbert.contracts import Builder
from mmbert.errors import IntegrityError
from mmbert.io.download import Package, archive_members, fetch
from mmbert.types import sample_id

IDENTIFIERS = (  # later files complete and correct earlier ones
    "Identifiers/chemical identifiers pubchem large.tsv",
    "Identifiers/chemical identifiers pubchem small.tsv",
    "Identifiers/chemical identifiers example user db.tsv",
    "Identifiers/Inorganic db.tsv",
    "Identifiers/Anion db.tsv",
    "Identifiers/Cation db.tsv",
)
TARGETS = {
    "melting_point": "Phase Change/OpenNotebook Melting Points.tsv",
    "boiling_point": "Phase Change/Yaws Boiling Points.tsv",
    "logp": "Environment/Syrres logP data.csv.gz",
}
INVENTORIES = {  # name -> table, and the code of its lines in the table's second column, where it tells two lists apart
    "EINECS": ("Law/EINECS 2015-03.csv.gz", None),
    "DSL": ("Law/Canada Feb 11 2015 - DSL.csv.gz", "0"),
    "NDSL": ("Law/Canada Feb 11 2015 - DSL.csv.gz", "1"),
    "TSCA": ("Law/TSCA Inventory 2016-01.csv.gz", None),
    "SPIN": ("Law/SPIN Inventory 2015-03.csv.gz", None),
    "CDR": ("Law/EPA Chemical Data Reporting - 2012.csv.gz", None),
    "HPV": ("Law/HPV 2015 March 3.csv", None),
}
HEAT_CAPACITY = "Heat Capacity/TRC Thermodynamics of Organic Compounds in the Gas State.tsv"
GRID = tuple(range(300, 1001, 50))  # K
HOTTEST = 1000.0  # K; of what boils above, only elements and salts are right
# RDKit's names; finite for every molecule here, under 2 ms for all of them
DESCRIPTORS = (  # noqa: SIM905, in a list each would take a line
    "MolWt HeavyAtomCount NumValenceElectrons NumRadicalElectrons FormalCharge TPSA LabuteASA MolLogP MolMR NumHDonors "
    "NumHAcceptors NHOHCount NOCount NumHeteroatoms NumRotatableBonds NumAmideBonds FractionCSP3 RingCount "
    "NumAromaticRings NumAliphaticRings NumSaturatedRings NumAromaticHeterocycles NumSpiroAtoms NumBridgeheadAtoms "
    "Chi0v Chi1v Chi2v Kappa1 Kappa2 Kappa3 HallKierAlpha BertzCT fr_halogen fr_COO fr_Al_OH fr_Ar_OH fr_NH2 fr_nitro "
    "fr_ether fr_ester fr_ketone fr_amide fr_unbrch_alkane"
).split()
Target = Literal["melting_point", "boiling_point", "logp"]
Tables = dict[str, list[list[str]]]


class Molecules(Builder):
    """Up to 19,764 molecules: melting point, boiling point, logP and chemical inventories.

    ``labelled`` keeps those with that property, or with at least one of several ("any": of all three); ``rows`` takes
    at most so many, always the same ones, a smaller set being part of a larger. Molecules of one group stay in one
    split: "skeleton" is the first block of the InChIKey (stereo-isomers share it), "scaffold" the Bemis-Murcko
    scaffold, a harder split (a molecule without rings has none: its skeleton stands in).

    Kept out: vapour pressure, which gives the boiling point away. Left out: three structures that RDKit refuses;
    boiling points above 1,000 K or not above the melting point. An IUPAC name spells the structure out: take the
    column ``common_name`` for a text that does not (mostly).

    Source: C. Bell et al., chemicals (https://github.com/CalebBell/chemicals), from its wheel, which is read, not
    installed: PubChem (names, structures), Open Notebook (melting), Yaws (boiling), Syracuse Research (logP), Kabo and
    Roganov (heat capacity). Descriptors: RDKit.
    """

    version: ClassVar[str] = "1"
    package: ClassVar[Package] = Package(
        "wheel", "chemicals", "1.5.2", "f85ef7f36e77fee634686c26562929ee61026cd548d89cebd57b2251ca843d6e", "MIT"
    )
    group: ClassVar[str | None] = "group"
    columns: ClassVar[Mapping[str, str]] = {
        "id": "CAS number",
        "names": "common name; IUPAC name",
        "common_name": "common name",
        "iupac_name": "IUPAC name",
        "structure": "SMILES",
        "descriptors": "43 numbers that RDKit computes from the structure",
        "heat_capacity": "ideal-gas heat capacity in J/(mol K) at 300, 350 ... 1000 K, as [temperature][1]",
        "melting_point": "in K",
        "boiling_point": "in K, at 1 atm",
        "logp": "log10 of the octanol-water partition coefficient",
        "inventories": "the lists of chemicals on which it stands: EINECS, DSL, NDSL, TSCA, SPIN, CDR, HPV",
        "group": "what never straddles two splits",
    }

    def __init__(
        self,
        *,
        rows: Annotated[int, Ge(1)] | None = None,
        labelled: Annotated[list[Target], MinLen(1)] | Target | Literal["any"] = "any",
        group_by: Literal["skeleton", "scaffold"] = "skeleton",
    ):
        self.rows = rows
        chosen = get_args(Target) if labelled == "any" else [labelled] if isinstance(labelled, str) else labelled
        self.labelled = sorted(set(chosen))
        self.group_by = group_by

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        tables = read_tables(fetch(self.package))
        return join(tables, progress, rows=self.rows, labelled=self.labelled, group_by=self.group_by)


def read_tables(archive: Path) -> Tables:
    """The tables used, by their path in the package: rows of cells, headers included."""
    wanted = {*IDENTIFIERS, *TARGETS.values(), *(name for name, _ in INVENTORIES.values()), HEAT_CAPACITY}
    tables = {}
    for name, read in archive_members(archive):
        path = name.removeprefix("chemicals/")
        if path in wanted:
            contents = gzip.decompress(read()) if path.endswith(".gz") else read()
            tables[path] = [line.split("\t") for line in contents.decode().splitlines()]
    if lacking := sorted(wanted - set(tables)):
        raise IntegrityError(f"{archive} has no table '{lacking[0]}'")
    return tables


def join(
    tables: Tables, progress: Callable[[float], None], *, rows: int | None, labelled: Sequence[str], group_by: str
) -> pd.DataFrame:
    """One row a molecule that has a structure, in an order that depends on the CAS numbers only."""
    from rdkit import Chem, rdBase

    targets = {name: {cas: float(cells[-1]) for cas, cells in _lines(tables[path])} for name, path in TARGETS.items()}
    targets["boiling_point"] = {
        cas: kelvin
        for cas, kelvin in targets["boiling_point"].items()
        if targets["melting_point"].get(cas, 0.0) < kelvin <= HOTTEST
    }
    inventories = {
        name: {cas for cas, cells in _lines(tables[path]) if code is None or cells[1] == code}
        for name, (path, code) in INVENTORIES.items()
    }
    curves = dict(_lines(tables[HEAT_CAPACITY]))
    identifiers = {cas: cells for path in IDENTIFIERS for cas, cells in _lines(tables[path], 1) if cells[4]}
    chosen = [cas for cas in identifiers if any(cas in targets[name] for name in labelled)]
    chosen.sort(key=lambda cas: sample_id("which molecules", cas))
    found = []
    with rdBase.BlockLogs():
        for cas in chosen:
            if len(found) == rows:
                break
            cells = identifiers[cas]
            molecule = Chem.MolFromSmiles(cells[4])
            if molecule is None:
                continue
            row = {
                "id": cas,
                **_names(cas, cells[7], cells[8] if len(cells) > 8 else ""),
                "structure": cells[4],
                "descriptors": descriptors(molecule),
                "inventories": [name for name, listed in inventories.items() if cas in listed],
                "group": cells[6].partition("-")[0],
                **{name: values[cas] for name, values in targets.items() if cas in values},
            }
            if cas in curves and (curve := _curve(curves[cas])):
                row["heat_capacity"] = curve
            if group_by == "scaffold":
                row["group"] = _scaffold(molecule) or row["group"]
            found.append(row)
            progress(len(found) / min(rows or len(chosen), len(chosen)))
    progress(1.0)
    return pd.DataFrame(found, columns=list(Molecules.columns))


def descriptors(molecule: Any) -> dict[str, float]:
    """The ``DESCRIPTORS`` of an RDKit molecule."""
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    functions = {"FormalCharge": Chem.GetFormalCharge}
    return {name: float((functions.get(name) or getattr(Descriptors, name))(molecule)) for name in DESCRIPTORS}


def heat_capacity(
    kelvin: float, a0: float, a1: float, a2: float, a3: float, a4: float, a5: float, a6: float, a7: float
) -> float:
    """Ideal-gas heat capacity in J/(mol K).

    Source: Kabo and Roganov, Thermodynamics of Organic Compounds in the Gas State, volume II, 1994.

    >>> round(heat_capacity(300, 4.0, 7.65e5, 720.0, 3.565, -0.052, -1.55e6, 52.0, 201.0), 6)
    42.065271
    """
    low = a0 + a1 / kelvin**2 * math.exp(-a2 / kelvin)
    if kelvin <= a7:
        return 8.31446261815324 * low
    y = (kelvin - a7) / (kelvin + a6)
    return 8.31446261815324 * (low + a3 * y**2 + (a4 - a5 / (kelvin - a7) ** 2) * y**8)


def _lines(table: list[list[str]], column: int = 0) -> Iterator[tuple[str, list[str]]]:
    """The lines of a table that have a CAS number, which some tables write without its two hyphens."""
    for cells in table:
        number = cells[column]
        if number[:1].isdigit():
            yield number if "-" in number else f"{number[:-3]}-{number[-3:-1]}-{number[-1]}", cells


def _names(cas: str, iupac: str, common: str) -> dict[str, str]:
    names = {"common_name": common if common != cas else "", "iupac_name": iupac if iupac != cas else ""}
    both = dict.fromkeys(name for name in names.values() if name)  # in this order, once each
    return {name: text for name, text in {**names, "names": "; ".join(both)}.items() if text}


def _curve(cells: list[str]) -> list[list[float]]:
    """The heat capacity on the grid, as [temperature][1]; empty where the fit does not cover the grid."""
    low, high, *constants = (float(cell) for cell in cells[2:12])
    covered = low <= GRID[0] and high >= GRID[-1]
    return [[heat_capacity(kelvin, *constants)] for kelvin in GRID] if covered else []


def _scaffold(molecule: Any) -> str:
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return MurckoScaffold.MurckoScaffoldSmiles(mol=molecule)
