"""The language of columns: which values make which category, what is left out, and what a typing error is told."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairdd_cli.datasets._groups import intersectional_groups
from fairdd_cli.datasets.tables.columns import parse_column, quote_value
from fairdd_cli.datasets.tables.values import Categories, categorise, control_character, fold, remarks
from fairdd_cli.errors import UsageError

HEADER = ["age", "sex", "dx", "Finding Labels", "age<20", "a=b", "No Finding"]


def categories(text: str, values: list[str]) -> Categories:
    return categorise(parse_column("--target", text, HEADER), Counter(values))


def noticed(text: str, values: list[str]) -> list[str]:
    spec, counts = parse_column("--target", text, HEADER), Counter(values)
    return list(remarks(spec, counts, categorise(spec, counts)))


SEXES = ["male", "female", "unknown", "", "male"]
DIAGNOSES = ["nv", "mel", "bkl", "df"]
AGES = ["0", "19.5", "20", "39", "40", "85.0"]
FINDINGS = ["Effusion|Mass", "Mass", "No Finding", "Effusion"]
CASES = {
    "a column alone": ("sex", ["b", "a"], ["a", "b"], [1, 0]),
    "values that say nothing by themselves": ("sex", ["1", "0"], ["sex=0", "sex=1"], [1, 0]),
    "yes and no by letters": ("sex", ["t", "F", "na"], ["sex=F", "na", "sex=t"], [2, 0, 1]),
    "letters that are no yes or no": ("sex", ["M", "F"], ["F", "M"], [1, 0]),
    "listed letters": ("sex=F,M", ["M", "F", "x"], ["F", "M"], [1, 0, None]),
    "numbers by size": ("age", ["80.0", "5.0", "15"], ["age=5.0", "age=15", "age=80.0"], [2, 0, 1]),
    "listed, in this order": ("sex=male,female", SEXES, ["male", "female"], [0, 1, None, None, 0]),
    "left out": ('sex!=unknown,""', SEXES, ["female", "male"], [1, 0, None, None, 1]),
    "left out, though no row has it": ("sex!=unknown,NA,-1", SEXES[:3], ["female", "male"], [1, 0, None]),
    "merged": ("dx=benign:nv+bkl,mel", DIAGNOSES, ["benign", "mel"], [0, 1, 0, None]),
    "merged without a name": ("dx=nv+bkl,mel", DIAGNOSES, ["nv+bkl", "mel"], [0, 1, 0, None]),
    "all others as one": ("dx=mel,other:*", DIAGNOSES, ["mel", "other"], [1, 0, 1, 1]),
    "all others as they are": ("dx=melanoma:mel,*", DIAGNOSES, ["melanoma", "bkl", "df", "nv"], [3, 0, 1, 2]),
    "patterns": ("dx=pets:cat*+dog?,*", ["cat", "cats", "dog1", "cow"], ["pets", "cow"], [0, 0, 0, 1]),
    "bins": ("age<20,<40", AGES, ["age<20", "20<=age<40", "age>=40"], [0, 0, 1, 1, 2, 2]),
    "bins without the operator repeated": ("age<20,40", AGES, ["age<20", "20<=age<40", "age>=40"], [0, 0, 1, 1, 2, 2]),
    "bins, and a code left out": ("age<20,!=-1", ["-1", "3", "20"], ["age<20", "age>=20"], [None, 0, 1]),
    "a list": ("Finding Labels~Effusion", FINDINGS, ["no Effusion", "Effusion"], [1, 0, 0, 1]),
    "a list by commas": ("dx~b", ["a,b", "b, c", "a"], ["no b", "b"], [1, 1, 0]),
    "several members of a list": ("Finding Labels~sick:Effusion+Mass", FINDINGS, ["no sick", "sick"], [1, 1, 0, 1]),
    "an empty cell as a value": ('No Finding=no:""+0.0,yes:1', ["", "0.0", "1.0"], ["no", "yes"], [0, 0, 1]),
    "a column with an operator": ("age<20", ["u", "v"], ["u", "v"], [0, 1]),
    "a column with an operator, and a condition": ("a=b=u,v", ["u", "v", "w"], ["u", "v"], [0, 1, None]),
    "a value with a plus": ("age=60+,0-59", ["60+", "0-59"], ["60+", "0-59"], [0, 1]),
    "a named value with a plus": ("age=old:60+,young:*", ["60+", "0-59"], ["old", "young"], [0, 1]),
    "a quoted value": ('dx="a,b",c', ["a,b", "c"], ["a,b", "c"], [0, 1]),
    "a quoted star": ('dx="*",x', ["*", "x", "y"], ["*", "x"], [0, 1, None]),
    "blanks around everything": ("sex = female , male", SEXES, ["female", "male"], [1, 0, None, None, 1]),
    "by accident written differently": ("sex=male,female", ["Male", "FEMALE", "male "], ["male", "female"], [0, 1, 0]),
    "1 and 1.0": ("No Finding=1,0", ["1.0", "0", "1", "00"], ["No Finding=1", "No Finding=0"], [0, 1, 0, 1]),
    "Unicode forms": ("sex=mädchen,junge", ["ma\u0308dchen", "Junge"], ["mädchen", "junge"], [0, 1]),
    "listed one by one they differ": ("sex=Male,male", ["Male", "male", "MALE"], ["Male", "male"], [0, 1, 0]),
    "parts of the path": ("path:-1=a,b", ["a", "b", "c"], ["a", "b"], [0, 1, None]),
}


@pytest.mark.parametrize("case", CASES)
def test_conditions(case: str) -> None:
    text, values, names, codes = CASES[case]
    result = categories(text, values)
    assert result.names == names
    assert [result.code.get(value) for value in values] == codes
    assert not result.errors
    assert result.left_out == {value for value, code in zip(values, codes, strict=True) if code is None}


REFUSED = {
    "an unknown column": ("agee", ["1"], "unknown column in --target 'agee': did you mean 'age'"),
    "a column of a condition": ("sexx=a", ["1"], "unknown column in --target 'sexx': did you mean 'sex'"),
    "a value that no row has": ("sex=femal,male", SEXES, "no row has 'femal': did you mean 'female'"),
    "a value to leave out that no row has": ("sex!=unkown", SEXES, "no row has 'unkown': did you mean 'unknown'"),
    "a pattern that no row has": ("dx=x*,nv", DIAGNOSES, r"no row has 'x\*'"),
    "a member that no list has": ("Finding Labels~Efusion", FINDINGS, "no row has 'Efusion': did you mean 'Effusion'"),
    "operators that do not fit": ("age<20,=5", AGES, "< and = cannot be combined"),
    "bins that descend": ("age<40,<20", AGES, "expected ascending numbers after <"),
    "a bin of words": ("age<old", AGES, "expected ascending numbers after <"),
    "an empty bin": ("age<20,<100,<120", AGES, "no row has 100<=age<120"),
    "an open quote": ('sex="male', SEXES, "a double quote that is not closed"),
    "one category": ("sex=male", SEXES, "it has one value only, 'male'"),
    "no category": ("sex", [""], "it has no value"),
    "too many": ("age", [str(i) for i in range(1001)], "1,001 different values; group them, as in 'age<20,<40'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_conditions_that_cannot_be_met(case: str) -> None:
    text, values, message = REFUSED[case]
    with pytest.raises(UsageError, match=message) as caught:
        categories(text, values)
    assert "\n" not in str(caught.value)


def test_values_that_are_none_are_errors_of_their_rows() -> None:
    assert categories("age<21", ["3", "old", "", "30"]).errors == {
        "old": "holds 'old', which is no number",
        "": "is empty",
    }
    assert categories("sex", ["a", "", "b"]).errors == {"": "is empty"}


def test_accidents_are_pointed_out_with_what_merges_them() -> None:
    (line,) = noticed("sex", ["Male", "Male", "male", "female"])
    assert "'Male' (2 rows) and 'male' (1 rows) are written differently" in line
    assert line.endswith("merge them with --target 'sex=Male,*'")
    assert categories("sex=Male,*", ["Male", "male", "female"]).names == ["Male", "female"]
    assert not noticed("sex=Male,*", ["Male", "male", "female"])
    (line,) = noticed("sex!=x", ["1", "1.0", "x", "2"])
    assert line.endswith("--target 'sex=1,*,!=x'")


@pytest.mark.parametrize("value", ["unknown", "NA", "-1", "-1.0", "N/A", "?", "not  available"])
def test_what_looks_missing_is_pointed_out_with_what_drops_it(value: str) -> None:
    values = ["0", "1", value]
    (line,) = noticed("sex", values)
    assert f"'{value}' (1 rows) may mean a missing value" in line
    option = line.split("--target ")[1].strip("'")
    assert categories(option, values).names == ["sex=0", "sex=1"]
    assert not noticed(option, values)


def test_a_condition_that_is_given_already_stays_in_the_advice() -> None:
    (line,) = noticed("age<20,<40", ["-1", "3", "30", "50"])
    assert line.endswith("leave such rows out with --target 'age<20,<40,!=-1'")


@given(st.lists(st.text(st.characters(exclude_characters='"', codec="utf-8"), max_size=6), min_size=2, unique_by=fold))
def test_every_value_can_be_named(values: list[str]) -> None:
    values = [value.strip() for value in values]
    if len({fold(value) for value in values}) < len(values):
        return
    result = categories("sex=" + ",".join(f"n{k}:{quote_value(value)}" for k, value in enumerate(values)), values)
    assert [result.names[result.code[value]] for value in values] == [f"n{k}" for k in range(len(values))]


@pytest.mark.parametrize("text", ["é\u00a0x", "👩\u200d🚀", "a\u3000b", "\u200fש", "ne\u00adver"])
def test_text_is_text(text: str) -> None:
    assert control_character(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\nb", "a line break"),
        ("\x1b[2J", "the control character U+001B"),
        ("a\0", "U+0000"),
        ("a\u2028", "a line break"),
        ("\udc80", "U+DC80"),
    ],
)
def test_what_could_harm_is_named(text: str, words: str) -> None:
    assert words in control_character(text)


@given(st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=30))
def test_intersection_of_attributes(rows: list[list[int]]) -> None:
    values, names = np.array(rows), ("a", "b", "c")
    if len({tuple(row) for row in rows}) == 1:
        with pytest.raises(UsageError, match="one group"):
            intersectional_groups([(column, names) for column in values.T])
        return
    protected, groups = intersectional_groups([(column, names) for column in values.T])
    assert [groups[value] for value in protected] == [" & ".join(names[v] for v in row) for row in rows]
    assert sorted(set(protected)) == list(range(len(groups)))


def test_attributes_that_make_too_many_groups() -> None:
    each = (np.arange(1200) % 40, [str(k) for k in range(40)])
    other = (np.arange(1200) // 40, [str(k) for k in range(30)])
    with pytest.raises(UsageError, match="more than 1,000 groups"):
        intersectional_groups([each, other])
