"""Molecules with names, structure, descriptors and measured properties, from ``chemicals`` and RDKit."""

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

IDENTIFIERS = (  # later files correct and extend earlier ones
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
INVENTORIES = {  # name -> table, and where it has two lists, the code of this one in the second column
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
MAX_BOILING_POINT = 1000.0  # K; higher values are right for elements and salts only
# names of RDKit; finite for every molecule here, under 2 ms for all of them
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

    Left out are vapour pressures, which determine the boiling point; three structures that RDKit does not accept; and
    boiling points above 1,000 K or below the melting point. An IUPAC name describes the structure; ``common_name`` is a
    text that mostly does not.

    The data are in the wheel of chemicals, which is read, not installed: PubChem (names, structures), Open Notebook
    (melting), Yaws (boiling), Syracuse Research (logP), Kabo and Roganov (heat capacity). Descriptors are RDKit's.

    Args:
        rows: the largest number of molecules; a smaller set is always part of a larger one. None takes all.
        labelled: keeps molecules with this property, or with at least one of several; "any": of all three.
        group_by: molecules of one group are in one split. "skeleton" is the first block of the InChIKey, which
            stereo-isomers share; "scaffold" is the Bemis-Murcko scaffold, a harder split (for molecules without rings
            it is the skeleton).

    Reference:
        C. Bell et al., chemicals, https://github.com/CalebBell/chemicals
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
        "inventories": "the inventories of chemicals that list it: EINECS, DSL, NDSL, TSCA, SPIN, CDR, HPV",
        "group": "its skeleton or scaffold; all molecules of a group are in one split",
    }

    def __init__(
        self,
        *,
        rows: Annotated[int, Ge(1)] | None = None,
        labelled: Annotated[list[Target], MinLen(1)] | Target | Literal["any"] = "any",
        group_by: Literal["skeleton", "scaffold"] = "skeleton",
    ):
        self.rows = rows
        targets = get_args(Target) if labelled == "any" else [labelled] if isinstance(labelled, str) else labelled
        self.labelled = sorted(set(targets))
        self.group_by = group_by

    def build(self, folder: Path, progress: Callable[[float], None]) -> pd.DataFrame:
        tables = read_tables(fetch(self.package))
        return join_tables(tables, progress, rows=self.rows, labelled=self.labelled, group_by=self.group_by)


def read_tables(archive: Path) -> Tables:
    """Read the tables that are used.

    Args:
        archive: the wheel of chemicals.

    Returns:
        Path in the package -> rows of cells, with the header.

    Raises:
        IntegrityError: where a table is missing.
    """
    paths = {*IDENTIFIERS, *TARGETS.values(), *(name for name, _ in INVENTORIES.values()), HEAT_CAPACITY}
    tables = {}
    for name, read in archive_members(archive):
        path = name.removeprefix("chemicals/")
        if path in paths:
            contents = gzip.decompress(read()) if path.endswith(".gz") else read()
            tables[path] = [line.split("\t") for line in contents.decode().splitlines()]
    if missing := sorted(paths - set(tables)):
        raise IntegrityError(f"{archive} has no table '{missing[0]}'")
    return tables


def join_tables(
    tables: Tables, progress: Callable[[float], None], *, rows: int | None, labelled: Sequence[str], group_by: str
) -> pd.DataFrame:
    """Join the tables into one row for each molecule with a structure, in an order that depends on CAS numbers only.

    Args:
        tables: what ``read_tables`` returns.
        progress: called with the fraction that is done.
        rows: the largest number of molecules.
        labelled: targets; each molecule has at least one of them.
        group_by: "skeleton" or "scaffold".
    """
    from rdkit import Chem, rdBase

    targets = {name: {cas: float(cells[-1]) for cas, cells in _lines(tables[path])} for name, path in TARGETS.items()}
    targets["boiling_point"] = {
        cas: kelvin
        for cas, kelvin in targets["boiling_point"].items()
        if targets["melting_point"].get(cas, 0.0) < kelvin <= MAX_BOILING_POINT
    }
    inventories = {
        name: {cas for cas, cells in _lines(tables[path]) if code is None or cells[1] == code}
        for name, (path, code) in INVENTORIES.items()
    }
    curves = dict(_lines(tables[HEAT_CAPACITY]))
    identifiers = {cas: cells for path in IDENTIFIERS for cas, cells in _lines(tables[path], 1) if cells[4]}
    numbers = [cas for cas in identifiers if any(cas in targets[name] for name in labelled)]
    numbers.sort(key=lambda cas: sample_id("which molecules", cas))
    molecules = []
    with rdBase.BlockLogs():
        for cas in numbers:
            if len(molecules) == rows:
                break
            cells = identifiers[cas]
            molecule = Chem.MolFromSmiles(cells[4])
            if molecule is None:
                continue
            row = {
                "id": cas,
                **_names(cas, cells[7], cells[8] if len(cells) > 8 else ""),
                "structure": cells[4],
                "descriptors": compute_descriptors(molecule),
                "inventories": [name for name, listed in inventories.items() if cas in listed],
                "group": cells[6].partition("-")[0],
                **{name: values[cas] for name, values in targets.items() if cas in values},
            }
            if cas in curves and (curve := _curve(curves[cas])):
                row["heat_capacity"] = curve
            if group_by == "scaffold":
                row["group"] = _scaffold(molecule) or row["group"]
            molecules.append(row)
            progress(len(molecules) / min(rows or len(numbers), len(numbers)))
    progress(1.0)
    return pd.DataFrame(molecules, columns=list(Molecules.columns))


def compute_descriptors(molecule: Any) -> dict[str, float]:
    """The values of ``DESCRIPTORS`` for an RDKit molecule."""
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    functions = {"FormalCharge": Chem.GetFormalCharge}
    return {name: float((functions.get(name) or getattr(Descriptors, name))(molecule)) for name in DESCRIPTORS}


def heat_capacity(kelvin: float, constants: Sequence[float]) -> float:
    """Ideal-gas heat capacity in J/(mol K).

    Args:
        kelvin: the temperature.
        constants: the eight constants a0 to a7 of the substance.

    Reference:
        Kabo and Roganov, Thermodynamics of Organic Compounds in the Gas State, volume II, 1994.

    Example:
        >>> round(heat_capacity(300, [4.0, 7.65e5, 720.0, 3.565, -0.052, -1.55e6, 52.0, 201.0]), 6)
        42.065271
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = constants
    low = a0 + a1 / kelvin**2 * math.exp(-a2 / kelvin)
    if kelvin <= a7:
        return 8.31446261815324 * low
    y = (kelvin - a7) / (kelvin + a6)
    return 8.31446261815324 * (low + a3 * y**2 + (a4 - a5 / (kelvin - a7) ** 2) * y**8)


def _lines(table: list[list[str]], column: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Pairs (CAS number, cells) of a table; some tables write the number without its two hyphens."""
    for cells in table:
        number = cells[column]
        if number[:1].isdigit():
            yield number if "-" in number else f"{number[:-3]}-{number[-3:-1]}-{number[-1]}", cells


def _names(cas: str, iupac: str, common: str) -> dict[str, str]:
    names = {"common_name": common if common != cas else "", "iupac_name": iupac if iupac != cas else ""}
    both = dict.fromkeys(name for name in names.values() if name)  # in this order, without repetition
    return {name: text for name, text in {**names, "names": "; ".join(both)}.items() if text}


def _curve(cells: list[str]) -> list[list[float]]:
    """The heat capacity on the grid, as [temperature][1]; empty where the fit does not cover the grid."""
    low, high, *constants = (float(cell) for cell in cells[2:12])
    is_covered = low <= GRID[0] and high >= GRID[-1]
    return [[heat_capacity(kelvin, constants)] for kelvin in GRID] if is_covered else []


def _scaffold(molecule: Any) -> str:
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return MurckoScaffold.MurckoScaffoldSmiles(mol=molecule)
