"""A CSV file of your own: written here, trained on for a few steps, then asked for two new rows.

Run: python examples/own_csv.py [FOLDER]    (by default a temporary folder, removed at the end)
"""

import contextlib
import csv
import os
import random
import sys
import tempfile
from pathlib import Path

import mmbert

RECIPE = """\
name: flats
data:
  flats: {type: files, path: flats.csv}     # 80 / 10 / 10 % for training, validation and test
trunk: {checkpoint: null, layers: 1, hidden_size: 32, heads: 2, vocabulary: 200}  # small, with random weights;
inputs:                                     # for real data: {checkpoint: minilm, tune: top2}
  advert: {type: text, max_length: 16}
  facts: {type: table, column: [rooms, area, district], layers: 1, width: 16}
fusion: {type: concat}
tasks:
  rent: {type: regression}
  furnished: {type: classification}
optim: {lr: {trunk: 5.0e-3, new: 5.0e-3}}     # for random weights; leave it out with a pretrained trunk
train: {steps: 60, batch_size: 32, select: rent/rmse}
evaluate: {every: 5, baselines: false}      # true compares with linear models and boosting: better, but slower
"""


def write_csv(path: Path, rows: int = 160) -> None:
    """Adverts of flats. The rent follows the area, the district and whether the flat is furnished."""
    rng = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["advert", "rooms", "area", "district", "rent", "furnished"])
        for _ in range(rows):
            rooms, furnished, district = rng.randint(1, 5), rng.random() < 0.5, rng.choice(["centre", "river", "hill"])
            area = round(rooms * rng.uniform(16, 24), 1)
            advert = "comes with all furniture and a bed" if furnished else "bring what you need, the rooms are empty"
            rent = (
                round(area) * {"centre": 16, "river": 13, "hill": 10}[district] + 150 * furnished + rng.randint(-20, 20)
            )
            # an empty cell is an absent input: one advert in ten is missing
            writer.writerow([advert if rng.random() < 0.9 else "", rooms, area, district, rent, furnished])


def main() -> None:
    """Write the files into the current folder, train, and predict."""
    write_csv(Path("flats.csv"))
    Path("flats.yaml").write_text(RECIPE, encoding="utf-8")
    mmbert.train("flats.yaml", out="run")  # the run folder holds the model and its scores
    rows = [
        {"advert": "comes with all furniture", "rooms": 2, "area": 40, "district": "centre"},
        {"rooms": 5, "area": 110, "district": "hill"},  # without an advert
    ]
    for row, prediction in zip(rows, mmbert.load("run").predict(rows), strict=True):
        print(row, "->", prediction)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.chdir(sys.argv[1])
        main()
    else:
        with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
            main()
