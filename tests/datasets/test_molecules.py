"""Molecules: tables joined on CAS numbers, targets cleaned by the documented rule, groups for splits."""

import gzip
import math
import zipfile

import pytest

from mmbert.datasets.molecules import (
    DESCRIPTORS,
    GRID,
    HEAT_CAPACITY,
    IDENTIFIERS,
    INVENTORIES,
    TARGETS,
    Molecules,
    heat_capacity,
    join_tables,
    read_tables,
)
from mmbert.errors import IntegrityError


def identity(cas, smiles, key, *names):
    return "\t".join(["1", cas, "formula", "0", smiles, "inchi", key, *names])


ETHANOL = identity("64-17-5", "CCO", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "ethanol", "alcohol", "spirit")
L_ALANINE = identity("56-41-7", "CC(C(=O)O)N", "QNAYBMKLOCPYGJ-REOHCLBHSA-N", "2-azanylpropanoic acid", "l-alanine")
D_ALANINE = identity("338-69-2", "CC(C(=O)O)N", "QNAYBMKLOCPYGJ-UWTATZPHSA-N", "2-azanylpropanoic acid", "338-69-2")
PHENOL = identity("108-95-2", "c1ccccc1O", "ISWSIDIOOBJBQZ-UHFFFAOYSA-N", "phenol", "phenol")
TOLUENE = identity("108-88-3", "Cc1ccccc1", "YXFVVABEGXRONW-UHFFFAOYSA-N", "methylbenzene", "toluene")
REFUSED = identity("7787-71-5", "FBr(F)F", "FQFKTKUFHWNTBN-UHFFFAOYSA-N", "bromine trifluoride", "bromine trifluoride")
NO_STRUCTURE = identity("1-00-0", "", "", "nothing", "nothing")
NO_TARGET = identity("74-82-8", "C", "VNWKTOKETHGBQD-UHFFFAOYSA-N", "methane", "methane")
LINES = (ETHANOL, L_ALANINE, D_ALANINE, PHENOL, TOLUENE, REFUSED, NO_STRUCTURE, NO_TARGET)
KABO = "4.0\t7.65E5\t720.\t3.565\t-0.052\t-1.55E6\t52.\t201."


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    contents = dict.fromkeys(IDENTIFIERS, "") | {path: "CASRN" for path, _ in INVENTORIES.values()}
    contents[IDENTIFIERS[0]] = "\n".join(LINES)
    contents[TARGETS["melting_point"]] = "CAS\tTm\n64-17-5\t159\n56-41-7\t570\n338-69-2\t571\n7787-71-5\t281\n1-00-0\t9"
    contents[TARGETS["boiling_point"]] = "CAS\tTb\n64-17-5\t351.5\n56-41-7\t400\n108-95-2\t2377\n108-88-3\t383.8"
    contents[TARGETS["logp"]] = "CAS\tChemical\tlogP\n108-95-2\tPhenol\t1.46"
    contents[INVENTORIES["EINECS"][0]] = "CASRN\n64175\n108952"
    contents[INVENTORIES["DSL"][0]] = "CASRN\tRegistry\n64175\t0\n108952\t1\n56417\t3"
    contents[INVENTORIES["HPV"][0]] = "64175"  # this one has no header
    contents[HEAT_CAPACITY] = f"CAS\tChemical\tTmin\n64-17-5\tx\t50\t1500\t{KABO}\n108-95-2\tx\t50\t900\t{KABO}"
    path = tmp_path_factory.mktemp("wheel") / "chemicals-1.5.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in contents.items():
            file.writestr(f"chemicals/{name}", gzip.compress(text.encode()) if name.endswith(".gz") else text)
        file.writestr("chemicals/Vapor Pressure/Antoine Collection Poling.tsv", "CAS")
    return read_tables(path)


def molecules(
    tables,
    *,
    rows=None,
    labelled=("boiling_point", "logp", "melting_point"),
    group_by="skeleton",
    progress=lambda done: None,
):
    frame = join_tables(tables, progress, rows=rows, labelled=labelled, group_by=group_by)
    assert list(frame.columns) == list(Molecules.columns)
    return frame.set_index("id")


def test_vapour_pressure_is_not_read(tables):
    assert not any("Vapor" in name for name in tables)
    assert not any("vapo" in column.lower() for column in Molecules.columns)


def test_rows_are_those_with_a_structure_and_a_target(tables):
    assert set(molecules(tables).index) == {"64-17-5", "56-41-7", "338-69-2", "108-88-3", "108-95-2"}
    assert set(molecules(tables, labelled=["melting_point"]).index) == {"64-17-5", "56-41-7", "338-69-2"}
    assert set(molecules(tables, labelled=["logp"]).index) == {"108-95-2"}
    both = molecules(tables, labelled=["logp", "melting_point"])
    assert set(both.index) == {"64-17-5", "56-41-7", "338-69-2", "108-95-2"}


def test_a_boiling_point_below_melting_or_above_every_molecule_is_left_out(tables):
    boiling = molecules(tables)["boiling_point"].dropna().to_dict()
    assert boiling == {"64-17-5": 351.5, "108-88-3": 383.8}
    assert "56-41-7" not in molecules(tables, labelled=["boiling_point"]).index


def test_a_smaller_set_is_part_of_a_larger(tables):
    everything = list(molecules(tables).index)
    for rows in range(1, len(everything) + 2):
        assert list(molecules(tables, rows=rows).index) == everything[:rows]
    reordered = dict(tables) | {IDENTIFIERS[0]: tables[IDENTIFIERS[0]][::-1]}
    assert list(molecules(reordered).index) == everything


def test_names_are_joined_without_duplicates_and_cas_numbers(tables):
    frame = molecules(tables)
    assert frame.loc["64-17-5", ["names", "common_name", "iupac_name"]].tolist() == [
        "alcohol; ethanol",
        "alcohol",
        "ethanol",
    ]
    assert frame["names"]["108-95-2"] == "phenol"  # written once
    assert frame["names"]["338-69-2"] == "2-azanylpropanoic acid"  # a CAS number is not a name
    assert frame["common_name"].isna()["338-69-2"]


def test_inventories_by_number_without_hyphens_and_by_code(tables):
    inventories = molecules(tables)["inventories"].to_dict()
    assert inventories["64-17-5"] == ["EINECS", "DSL", "HPV"]
    assert inventories["108-95-2"] == ["EINECS", "NDSL"]
    assert inventories["56-41-7"] == []


def test_stereo_isomers_share_a_group_and_scaffolds_join_more(tables):
    skeleton, scaffold = (molecules(tables, group_by=by)["group"] for by in ("skeleton", "scaffold"))
    assert skeleton["56-41-7"] == skeleton["338-69-2"]
    assert skeleton.nunique() == 4
    assert scaffold["108-95-2"] == scaffold["108-88-3"] == "c1ccccc1"
    assert scaffold["64-17-5"] == skeleton["64-17-5"]  # no rings, no scaffold


def test_descriptors_are_finite_and_in_one_order(tables):
    column = molecules(tables)["descriptors"]
    for values in column:
        assert list(values) == DESCRIPTORS
        assert all(math.isfinite(value) for value in values.values())
    ethanol = column["64-17-5"]
    assert ethanol["MolWt"] == pytest.approx(2 * 12.011 + 6 * 1.008 + 15.999, abs=2e-3)
    assert (ethanol["HeavyAtomCount"], ethanol["NumHDonors"], ethanol["RingCount"], ethanol["FormalCharge"]) == (
        3,
        1,
        0,
        0,
    )
    assert column["108-95-2"]["fr_Ar_OH"] == 1
    assert len(DESCRIPTORS) == 43


def test_heat_capacity_is_given_where_the_fit_covers_the_grid(tables):
    curves = molecules(tables)["heat_capacity"].dropna()
    assert list(curves.index) == ["64-17-5"]
    curve = curves["64-17-5"]
    assert len(curve) == len(GRID) == 15
    assert curve[0] == [pytest.approx(42.065271080974654, rel=1e-12)]  # the example of chemicals' TRCCp
    assert curve == sorted(curve)


def test_heat_capacity_at_low_temperature_is_the_constant_term():
    assert heat_capacity(1e-3, [4.0, 7.65e5, 720.0, 3.565, -0.052, -1.55e6, 52.0, 201.0]) == pytest.approx(
        4 * 8.31446261815324
    )


def test_progress_ends_at_one(tables):
    done = []
    molecules(tables, progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 1.0


def test_a_table_that_is_missing_is_named(tmp_path):
    path = tmp_path / "chemicals-1.5.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("chemicals/other.tsv", "")
    with pytest.raises(IntegrityError, match="has no table"):
        read_tables(path)


def test_labelled_names_a_set():
    several = Molecules(labelled=["melting_point", "logp", "logp"])
    assert vars(several) == vars(Molecules(labelled=["logp", "melting_point"]))
    assert vars(Molecules()) == vars(Molecules(labelled=["logp", "melting_point", "boiling_point"]))
    assert vars(Molecules(labelled="logp")) == vars(Molecules(labelled=["logp"]))
