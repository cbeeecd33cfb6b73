from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlays._registry import split_spec
from scrfd_trt.errors import OptionError


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("skull", "skull", {}),
        (" skull : ", "skull", {}),
        ("skull:opacity=0.7", "skull", {"opacity": "0.7"}),
        ("skull:opacity=0.7,image=/a/b.png", "skull", {"opacity": "0.7", "image": "/a/b.png"}),
        ("skull: opacity = 0.7 , scale = 2 ", "skull", {"opacity": "0.7", "scale": "2"}),
        (r"skull:image=C:\skulls\a=b.png,scale=2", "skull", {"image": r"C:\skulls\a=b.png", "scale": "2"}),
        ("x:url=http://h:80/?a=b", "x", {"url": "http://h:80/?a=b"}),
        ('x:a="1,2",b=3', "x", {"a": "1,2", "b": "3"}),
        ("x:a='1, \"2\"' ,b=3", "x", {"a": '1, "2"', "b": "3"}),
        ('x:a="say ""a,b""",b=', "x", {"a": 'say "a,b"', "b": ""}),
        (r'x:a="C:\new folder\"', "x", {"a": "C:\\new folder\\"}),
        ("x:a=it's", "x", {"a": "it's"}),
        ("x:a=1,", "x", {"a": "1"}),
    ],
)
def test_valid_specs(spec: str, name: str, options: dict[str, str]) -> None:
    assert split_spec(spec) == (name, options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "has no overlay name"),
        (":opacity=1", "has no overlay name"),
        ("skull:0.7", "'0.7' in 'skull:0.7' is not option=value"),
        ("skull:image=/a,b.png", "'b.png' .* quote a value that contains a comma"),
        ("skull:opacity", "write opacity=VALUE$"),
        ("skull:opacity=0,5", "'5' .* use 0.5$"),
        ("skull:scale=2,opacity", "write opacity=VALUE, or quote"),
        ("skull,opacity=0.2", "no overlay 'skull,opacity=0.2'; options follow a colon: skull:opacity=0.2"),
        ("skull:=3", "is not option=value"),
        ("skull:scale=1,scale=2", "'scale' is repeated"),
        ('skull:image="/a', "is not closed before a comma"),
        ('skull:image="/a"b', "is not closed before a comma"),
    ],
)
def test_invalid_specs_raise_one_line(spec: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        split_spec(spec)
    assert "\n" not in str(caught.value)


@settings(max_examples=30)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), st.text(max_size=12), max_size=4))
def test_any_value_can_be_quoted(options: dict[str, str]) -> None:
    written = ",".join('{}="{}"'.format(key, value.replace('"', '""')) for key, value in options.items())
    assert split_spec(f"name:{written}") == ("name", options)


@given(st.text(max_size=20))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        name, _ = split_spec(text)
    except OptionError:
        return
    assert name
