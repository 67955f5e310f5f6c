"""CSV files as their writers meant them: dialects, encodings, rows that are none, numbers in any spelling."""

import csv
import gzip
import io

import numpy as np
import polars as pl
import pytest
import torch
from builders import BEYOND_INT64, CASES, counts, skipped

from unseen.data.loading import load
from unseen.errors import UnseenError

ROWS = [("1.5", "-2", "ant"), ("0.25", "3", "bee"), ("7", "0", "ant"), ("-1", "12", "bee")] * 5
PLAIN = "x,y,label\n" + "".join(",".join(row) + "\n" for row in ROWS)


def read(place, text, written="utf-8", name="t.csv", **options):
    (place / name).write_bytes(text.encode(written))
    return load(place / name, test_fraction=0, **options)


def same(examples, plain):
    assert torch.equal(examples.inputs, plain.inputs) and torch.equal(examples.labels, plain.labels)
    assert examples.classes == plain.classes and examples.ids == plain.ids


@pytest.fixture
def plain(tmp_path):
    (tmp_path / "plain.csv").write_text(PLAIN)
    return load(tmp_path / "plain.csv", test_fraction=0)


# -- separators and quotes


@pytest.mark.parametrize("separator", [";", "\t", "|", ",", " "])
def test_separators_are_found_and_said(tmp_path, plain, separator):
    examples = read(tmp_path, PLAIN.replace(",", separator))
    same(examples, plain)
    assert any("separated by" in note for note in examples.reading.notes) == (separator != ",")
    same(read(tmp_path, PLAIN.replace(",", separator), separator=separator), plain)


@pytest.mark.parametrize("name", ["t.tsv", "T.TSV", "t.tab"])
def test_tsv_files(tmp_path, plain, name):
    same(read(tmp_path, PLAIN.replace(",", "\t"), name=name), plain)
    quoted = "\n".join("\t".join(f'"{field}"' for field in line.split(",")) for line in PLAIN.strip().split("\n"))
    same(read(tmp_path, quoted, name=name), plain)


def test_a_separator_of_ones_own_and_bad_ones(tmp_path, plain):
    same(read(tmp_path, PLAIN.replace(",", "~"), separator="~"), plain)
    same(read(tmp_path, PLAIN.replace(",", "\t"), separator="tab"), plain)
    with pytest.raises(UnseenError, match=r"--separator .* is '::'\. Allowed: one letter"):
        read(tmp_path, PLAIN, separator="::")


def test_excels_line_that_names_the_separator(tmp_path, plain):
    same(read(tmp_path, "sep=;\n" + PLAIN.replace(",", ";")), plain)


def test_single_quotes_and_quoted_line_breaks(tmp_path, plain):
    same(read(tmp_path, "\n".join(",".join(f"'{field}'" for field in line.split(",")) for line in PLAIN.strip().split("\n"))), plain)
    text = "x,label\n" + "".join(f'{number},"a\nb"\n{number},"c ""d"""\n' for number in range(10))
    assert read(tmp_path, text).classes == ("a\nb", 'c "d"')


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_line_endings(tmp_path, plain, ending):
    same(read(tmp_path, PLAIN.replace("\n", ending)), plain)


@pytest.mark.parametrize("name", ["DATA.CSV", "data.Csv"])
def test_suffixes_in_any_case(tmp_path, plain, name):
    same(read(tmp_path, PLAIN, name=name), plain)


def test_a_zipped_csv(tmp_path, plain):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    same(load(tmp_path / "t.csv.gz", test_fraction=0), plain)


# -- encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_marked_and_wide_encodings(tmp_path, plain, encoding):
    same(read(tmp_path, PLAIN, encoding), plain)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "utf-16", "utf-8-sig"])
def test_letters_survive(tmp_path, encoding):
    text = PLAIN.replace("ant", "Käse").replace("bee", "Öl")
    examples = read(tmp_path, text, encoding)
    assert examples.classes == ("Käse", "Öl")
    assert any("encoding" in note for note in examples.reading.notes) == (encoding not in ("utf-8", "utf-8-sig"))


def test_an_encoding_of_ones_own_and_bad_ones(tmp_path):
    text = PLAIN.replace("ant", "муравей")
    assert "муравей" in read(tmp_path, text, "cp1251", encoding="cp1251").classes
    with pytest.raises(UnseenError, match=r"--encoding .* is 'klingon'"):
        read(tmp_path, text, encoding="klingon")
    with pytest.raises(UnseenError, match=r"byte \d+ is no utf-8.*--encoding"):
        read(tmp_path, text, "cp1251", encoding="utf-8")


def test_a_late_letter_decides_the_encoding(tmp_path):
    text = "x,label\n" + "1,ant\n2,bee\n" * 20_000 + "3,Käse\n4,Käse\n"
    assert read(tmp_path, text, "cp1252").classes == ("Käse", "ant", "bee")


# -- rows that are none


@pytest.mark.parametrize("blank", ["\n", "\n\n\n", ",,\n", ",,\n\n,,\n", " \n"])
@pytest.mark.parametrize("place", ["end", "middle"])
def test_blank_lines_and_empty_rows(tmp_path, plain, blank, place):
    lines = PLAIN.splitlines(keepends=True)
    lines.insert(len(lines) if place == "end" else 7, blank)
    examples = read(tmp_path, "".join(lines))
    if blank == " \n":
        assert len(examples) == 20
    same(examples, plain)
    assert examples.reading.found == len(examples) + examples.reading.left_out


def test_comments(tmp_path, plain):
    lines = PLAIN.splitlines(keepends=True)
    text = "# measured in 2024\n#\n\n" + "".join(lines[:9]) + "# a pause\n" + "".join(lines[9:])
    examples = read(tmp_path, text)
    same(examples, plain)
    assert skipped(examples, "rows") == {"comments": 1} and any("3 lines before the header" in note for note in examples.reading.notes)


def test_colours_and_a_header_that_begins_with_a_hash_are_no_comments(tmp_path):
    text = "#colour,x,label\n" + "#ff0000,1,ant\n#00ff00,2,bee\n" * 10
    examples = read(tmp_path, text)
    assert len(examples) == 20 and examples.shape == (3,) and not examples.reading.skipped


def test_rows_of_another_length_are_named(tmp_path):
    with pytest.raises(UnseenError, match=r"row 4 has 5 fields and the header 3"):
        read(tmp_path, PLAIN.replace("1.5,-2,ant\n0.25,3,bee\n7,0,ant\n-1,12,bee\n1.5,-2,ant", "1,1,a\n1,1,a\n1,1,b\n1,1,b\n1,2,3,4,a", 1))


# -- numbers as what they are


def column(place, values, **options):
    """The one feature of a CSV with this text column, and what the column became."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("value", "z", "label"))
    writer.writerows((value, number * 0.37 % 1, "ab"[number % 2]) for number, value in enumerate(values))
    examples = read(place, buffer.getvalue(), **options)
    became = next(part.becomes for part in examples.reading.columns if part.name == "value")
    return examples.inputs[:, 0].double().tolist() if examples.shape == (2,) else examples.shape, became


NUMBERS = {
    "thousands": (["1,234", "12", "1,000,000", "-2,500.5"], [1234, 12, 1e6, -2500.5]),
    "percent": (["12.5%", "3 %", "-1%", "100%"], [0.125, 0.03, -0.01, 1]),
    "money": (["$1,234.50", "$2", "-$3", "$0.25"], [1234.5, 2, -3, 0.25]),
    "euros": (["12,50 €", "3,00 €", "1.234,00 €", "0,5 €"], [12.5, 3, 1234, 0.5]),
    "decimal comma": (["1,5", "2,25", "-0,125", "7"], [1.5, 2.25, -0.125, 7]),
    "points and a comma": (["1.234,5", "12,25", "1.000.000", "3"], [1234.5, 12.25, 1e6, 3]),
    "spaces": (["1 234", "12", "1 000 000", "5"], [1234, 12, 1e6, 5]),
    "accounts": (["(1,234)", "5,000", "(2)", "7"], [-1234, 5000, -2, 7]),
    "a sign": (["+1.5", "−2", "3", "4e2"], [1.5, -2, 3, 400]),
    "India": (["1,23,456", "12,34,567", "999", "1,000"], [123456, 1234567, 999, 1000]),
    "blanks": ([" 1", "2 ", " 3 ", "4"], [1, 2, 3, 4]),
    "dates": (["1970-01-02", "1970-01-11", "2000-01-01", "1969-12-31"], [1, 10, 10957, -1]),
    "European dates": (["02.01.1970", "31.01.1970", "03.01.1970", "01.02.1970"], [1, 30, 2, 31]),
    "American dates": (["01/02/1970", "01/31/1970", "02/01/1970", "1/3/1970"], [1, 30, 31, 2]),
    "British dates": (["02/01/1970", "31/01/1970", "01/02/1970", "3/1/1970"], [1, 30, 31, 2]),
    "moments": (["1970-01-01 12:00:00", "1970-01-02 00:00:00", "1970-01-03 06:00:00", "1970-01-01 00:00:00"], [0.5, 1, 2.25, 0]),
    "ISO moments": (["1970-01-01T12:00:00Z", "1970-01-02T00:00:00Z", "1970-01-03T06:00:00Z", "1970-01-01T00:00:00Z"], [0.5, 1, 2.25, 0]),
    "moments of a zone": (["1970-01-01T12:00:00+00:00", "1970-01-02T01:00:00+01:00", "1970-01-03T06:00:00+00:00"], [0.5, 1, 2.25]),
    "written dates": (["2 Jan 1970", "31 Jan 1970", "3 Jan 1970"], [1, 30, 2]),
    "long dates": (["2 January 1970", "31 January 1970", "1 February 1970"], [1, 30, 31]),
    "clocks": (["12:01 AM", "01:00 AM", "12:30 PM"], [60, 3600, 45000]),
    "times": (["00:01", "01:00", "12:30", "00:00"], [60, 3600, 45000, 0]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_texts_that_are_numbers_become_them(tmp_path, kind):
    texts, numbers = NUMBERS[kind]
    values, became = column(tmp_path, texts * 10)
    assert np.allclose(values, numbers * 10, rtol=1e-6) and "one per value" not in became


def test_what_a_comma_means_is_told_by_the_other_columns(tmp_path):
    """1,234 alone may be either: in a table of semicolons without points it is 1.234, beside 1.5 it is 1234."""
    values = ["1,234", "2,345", "3,456", "4,567"] * 5
    german = "a;b;label\n" + "".join(f"{value};{number};{'uv'[number % 2]}\n" for number, value in enumerate([*values]))
    assert read(tmp_path, german).inputs[0, 0].item() == pytest.approx(1.234)
    mixed = "a;b;label\n" + "".join(f"{value};{number * 0.37 % 1:.2f};{'uv'[number % 2]}\n" for number, value in enumerate(values))
    examples = read(tmp_path, mixed)
    assert examples.inputs[0, 0].item() == 1234 and any("'1,234' is read as 1234" in note for note in examples.reading.notes)


def test_points_of_thousands_in_a_table_of_decimal_commas(tmp_path):
    text = "price;rate;label\n" + "".join(f"{1 + number}.{100 + number};{number % 7},25;{'uv'[number % 2]}\n" for number in range(20))
    examples = read(tmp_path, text)
    assert examples.inputs[:3, 0].tolist() == [1100, 2101, 3102] and examples.inputs[3, 1].item() == 3.25


def test_one_unit_behind_all_numbers_is_left_out(tmp_path):
    texts = [f"{number / 4} kg" for number in range(30)]
    values, became = column(tmp_path, texts)
    assert values == [number / 4 for number in range(30)] and became == "numbers of kg"
    assert column(tmp_path, ["12 kg", "3 g", "7 kg"] * 10)[0] == (4,)  # two units: categories
    assert column(tmp_path, ["1a", "2a", "3a"] * 10)[0] == (4,)  # few: codes


def test_categories_stay_categories(tmp_path):
    assert column(tmp_path, ["red", "blue", "?", "n/a"] * 10)[0] == (5,)
    assert column(tmp_path, ["1", "2", "3", "A"] * 10)[0] == (5,)  # codes, four of them


@pytest.mark.parametrize("mark", ["?", "n/a", "NA", "-", "null", "N/A", "#N/A", "missing"])
def test_missing_marks_among_numbers_are_missing_values(tmp_path, mark):
    values = [str(number / 8) for number in range(30)]
    values[17] = values[21] = mark
    with pytest.raises(UnseenError, match=r"Column 'value' has 2 missing values, written '.*', the first in row 17.*--drop value"):
        column(tmp_path, values)


@pytest.mark.parametrize("wrong", ["abc", "1.2.3", "12 kg", "5%", "1,2,3"])
def test_what_is_no_number_among_numbers_is_named_with_its_row(tmp_path, wrong):
    values = [str(number / 8) for number in range(130)]
    values[77] = wrong
    with pytest.raises(UnseenError, match=f"Column 'value' holds numbers, and a value that is none: '{wrong}' in row 77"):
        column(tmp_path, values)


def test_a_column_of_texts_is_told_of_every_way_out(tmp_path):
    with pytest.raises(UnseenError, match=r"130 different texts.*--text value.*--id-column.*--drop value"):
        column(tmp_path, [f"a good film {number}" for number in range(130)])


def test_dropped_columns(tmp_path):
    text = "note,x,y,label\n" + "".join(f"a text {number},{number * 0.37 % 1},{number % 3},{'uv'[number % 2]}\n" for number in range(130))
    examples = read(tmp_path, text, drop="note")
    assert examples.shape == (2,) and skipped(examples, "columns") == {"dropped, as asked": 1}
    assert read(tmp_path, text, drop=("note", "y")).shape == (1,)
    with pytest.raises(UnseenError, match=r"no column 'nope' for --drop .*Allowed: note, x, y, label"):
        read(tmp_path, text, drop="nope")


def test_labels_stay_the_texts_that_they_are(tmp_path):
    for names in (("007", "010", "100"), ("012", "12", "1.0"), ("true", "false", "True"), ("1e3", "1000", "nan"), ("NA", "None", "x")):
        text = "x,label\n" + "".join(f"{number},{names[number % 3]}\n" for number in range(30))
        examples = read(tmp_path, text)
        assert set(examples.classes) == set(names) and counts(examples) == {("train", name): 10 for name in names}


@pytest.mark.skipif(
    not BEYOND_INT64, reason="this Polars reads no whole numbers beyond 2^63 from a CSV; load refuses them with the column's name"
)
def test_large_ids_are_no_floats(tmp_path):
    ids = [2**63 + number for number in range(15)] + ["007", "7", "1e5", "x"] + [str(2**64 + 1)]
    text = "x,who,label\n" + "".join(f"{number * 0.37 % 1},{one},{'ab'[number % 2]}\n" for number, one in enumerate(ids))
    assert read(tmp_path, text, id_column="who").ids == [str(one) for one in ids]
    text = "id,x,label\n" + "".join(f"{2**63 + number * number},{number * 0.37 % 1},{'ab'[number % 2]}\n" for number in range(30))
    examples = read(tmp_path, text)
    assert examples.shape == (1,) and "'id' is an id by its name" in examples.reading.suspicious[0]
    examples = read(tmp_path, text.replace("id,", "far,"))
    assert examples.inputs[:4, 0].tolist() == [0, 1, 4, 9] and any("beyond 2^63" in note for note in examples.reading.notes)
    frame = pl.DataFrame(
        {"x": np.random.default_rng(0).random(20), "who": np.arange(2**63, 2**63 + 20, dtype=np.uint64), "label": [0, 1] * 10}
    )
    assert load(frame, id_column="who", test_fraction=0).ids[3] == str(2**63 + 3)


def test_pandas_reads_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(5)
    frame = pandas.DataFrame(
        {"a": random.normal(size=40), "b": random.integers(0, 1000, 40) * 1000.0, "label": random.choice(["u", "v"], 40)}
    )
    for options, thousands in (({"sep": ";", "decimal": ","}, None), ({"sep": "|"}, None), ({"encoding": "utf-16"}, None)):
        frame.to_csv(tmp_path / "t.csv", index=False, **options)
        again = pandas.read_csv(tmp_path / "t.csv", thousands=thousands, **options)
        examples = load(tmp_path / "t.csv", test_fraction=0)
        assert np.allclose(examples.inputs.numpy(), again[["a", "b"]].to_numpy(), rtol=1e-6)
    frame.to_csv(tmp_path / "i.csv")  # with the index that pandas writes if it is not told otherwise
    assert load(tmp_path / "i.csv", test_fraction=0).shape == (2,)


# -- the cases of real users


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not on this machine")
@pytest.mark.parametrize("case", ["csv_semicolon", "csv_latin1", "csv_trailing_blank_line", "csv_upper_suffix"])
def test_cases_have_the_numbers_of_the_plain_one(case):
    plain = load(CASES / "csv_plain" / "data.csv")
    examples = load(CASES / case / ("DATA.CSV" if case == "csv_upper_suffix" else "data.csv"))
    assert torch.equal(examples.inputs, plain.inputs) and torch.equal(examples.index, plain.index)
    if case == "csv_latin1":
        assert examples.classes == ("Brot", "Käse", "Öl")
    else:
        assert torch.equal(examples.labels, plain.labels)


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not on this machine")
def test_cases_of_numbers_and_labels():
    assert load(CASES / "csv_feat_thousands" / "data.csv", test_fraction=0).inputs[:3, 0].tolist() == [1037, 1074, 1111]
    assert load(CASES / "csv_feat_percent" / "data.csv", test_fraction=0).inputs[:3, 0].tolist() == pytest.approx([0.015, 0.03, 0.045])
    assert load(CASES / "apply_leading_zero" / "data.csv").classes == ("007", "010", "100")
    assert load(CASES / "apply_bool_lower" / "data.csv").classes == ("false", "true")
