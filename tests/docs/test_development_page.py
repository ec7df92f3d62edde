"""docs/development.md: every module has its place in it, and everything it names is there."""

import re
import xml.etree.ElementTree as ET

from tests.support.docs import DOCS, missing, page
from tests.support.farm import ROOT

NAME = "development.md"


def modules():
    for path in sorted((ROOT / "fabbuild").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if "sample/" not in name and path.name not in ("__init__.py", "__main__.py"):
            yield name


def test_every_module_has_its_place():
    lacking = missing(page(NAME), modules())
    assert not lacking, f"docs/{NAME}: say in `How a run goes through the modules` what {lacking} do"


def test_every_path_it_names_is_there():
    named = re.findall(r"`((?:fabbuild|tests|docs|benchmarks|\.ci)/[\w./-]*)", page(NAME))
    assert len(named) > 60
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


def test_the_picture_names_modules_that_are_there():
    picture = ET.parse(DOCS / "images" / "modules.svg")
    titles = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "t"]
    names = {name for title in titles for name in title.split(", ")} - {"make", "gcc", "ld …"}
    assert len(names) > 15
    places = [ROOT / "fabbuild", ROOT / "fabbuild" / "worker"]
    gone = [n for n in names if not any((at / f"{n}.py").exists() or (at / n).is_dir() for at in places)]
    assert gone == []
