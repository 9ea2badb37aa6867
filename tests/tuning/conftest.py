import csv
import random
import string

import pytest


@pytest.fixture(scope="session")
def meals(tmp_path_factory):
    """A file of 80 different sentences about tea and soup, half of them good."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("rows") / "meals.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["message", "category"])
        for row in range(80):
            letters = " ".join(draw.sample(string.ascii_lowercase, 4))
            meal, verdict = draw.choice(["tea", "soup"]), "good" if row % 2 else "bad"
            writer.writerow([f"the {meal} {letters} was {verdict}", verdict])
    return str(path)
