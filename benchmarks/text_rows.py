"""Rows of the text benchmark: names of molecules and reviews, real texts with a number each."""

import io
import tarfile

import numpy as np
import pyarrow as pa

from mmbert.data.sources.dataset import prepare
from mmbert.datasets.molecules import Molecules
from mmbert.io.download import Package, fetch, open_member
from mmbert.types import Sample, sample_id

VADER = Package(
    "sdist", "vaderSentiment", "3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9", "MIT"
)
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
Rows = list[tuple[str, float]]


def names() -> Rows:
    """Common and IUPAC names of molecules, with the melting point in K."""
    folder = prepare(Molecules(labelled=["melting_point", "logp"]))
    with pa.memory_map(str(folder / "rows.arrow")) as file:
        frame = pa.ipc.open_file(file).read_all().select(["names", "melting_point"]).to_pandas().dropna()
    return list(zip(frame["names"], frame["melting_point"], strict=True))


def reviews() -> Rows:
    """Snippets of product and film reviews, with the mean rating of 20 people, -4 to 4 (Hutto & Gilbert 2014)."""
    rows: Rows = []
    with tarfile.open(fileobj=io.BytesIO(open_member(fetch(VADER), ARCHIVE).read())) as archive:
        for kind in ("amazon", "movie"):
            file = archive.extractfile(f"hutto_ICWSM_2014/{kind}ReviewSnippets_GroundTruth.txt")
            assert file is not None, "the archive is pinned by its hash"
            for line in file.read().decode("utf-8", "replace").splitlines():
                _, rating, text = line.split("\t", 2)
                rows.append((text, float(rating)))
    return rows


def samples(kind: str, count: int) -> list[Sample]:
    """Rows of one kind, always the same ones, repeated where there are too few.

    Args:
        kind: ``names``, ``reviews`` or ``both`` (half and half).
        count: number of rows.

    Returns:
        Samples whose targets have mean 0 and standard deviation 1 within names and within reviews.
    """
    if kind == "both":
        return samples("names", count - count // 2) + samples("reviews", count // 2)
    rows = {"names": names, "reviews": reviews}[kind]()
    ordered = sorted(range(len(rows)), key=lambda row: sample_id(kind, str(row)))
    chosen = [rows[ordered[index % len(rows)]] for index in range(count)]
    targets = np.array([target for _, target in chosen])
    scaled = (targets - targets.mean()) / targets.std()
    return [
        Sample(sample_id(kind, str(index)), kind, {"text": text}, {"target": float(target)})
        for index, ((text, _), target) in enumerate(zip(chosen, scaled, strict=True))
    ]
