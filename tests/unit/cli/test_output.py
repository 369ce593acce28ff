import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.cli.output import json_array, json_text, table

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=8
)


def test_table_aligns_words_left_and_numbers_right():
    assert table(["Run", "Files"], [["a", "10"], ["longer", "7"]], right=["Files"]) == [
        *("Run     Files", "a          10", "longer      7")
    ]


def test_table_of_nothing_is_its_header():
    assert table(["Run", "Files"], []) == ["Run  Files"]


def test_wide_and_hostile_cells_keep_their_columns():
    lines = table(["Name", "X"], [["日本", "1"], ["a\x1b[2J\n", "2"], ["b", "3"]])
    assert lines == ["Name        X", "日本        1", "a\\x1b[2J\\n  2", "b           3"]


@given(st.lists(ANY_JSON))
def test_array_in_pieces_is_the_array(items):
    assert json.loads("".join(json_array(items)).encode()) == items


@pytest.mark.parametrize("text", ["\udcff", "a\ud800b"])
def test_half_a_surrogate_pair_never_gets_into_json(text):
    assert "\ufffd" in json.loads(json_text(text).encode())
