"""YAML with line numbers: the values are those of safe_load."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from fabbuild.config import yaml_lines


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(alphabet="abc: #-\n")
        ),
        lambda below: st.one_of(
            st.lists(below, max_size=3), st.dictionaries(st.text("abc", min_size=1), below, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_values_are_those_of_safe_load(tmp_path, value):
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump(value))
    item = yaml_lines.load_yaml(path)
    assert (item.plain() if item else None) == yaml.safe_load(path.read_text())
