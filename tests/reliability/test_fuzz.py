"""Whatever a file or a command line says: it works, or it is refused with a message. Never a traceback."""

import contextlib
import io
import os
import string

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unseen
from campaign import EXAMPLES
from unseen.attribution.queries import parse_queries
from unseen.cli import COMMANDS, main
from unseen.curate.decisions import read_decisions
from unseen.data.subsets import find_subsets

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UNSEEN_SOAK" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FEW = settings(FUZZ, max_examples=max(20, EXAMPLES // 10))
CELLS = st.one_of(
    st.sampled_from(["", "1", "-1", "nan", "inf", "1e400", "a", "b", '"', "0", "2", " ", "é", "\0", "null"]), st.text(max_size=5)
)
HEADS = st.lists(st.one_of(st.sampled_from(["label", "index", "x", "image", "", "x"]), st.text(max_size=4)), min_size=1, max_size=4)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged pictures


def works_or_is_refused(deed):
    try:
        deed()
    except unseen.UnseenError as error:
        assert str(error).strip()


@pytest.fixture
def place(tmp_path):
    return tmp_path


@FUZZ
@given(
    head=HEADS, rows=st.lists(st.lists(CELLS, max_size=5), max_size=8), kind=st.sampled_from([".csv", ".tsv"]), raw=st.binary(max_size=20)
)
def test_tables_of_text(place, head, rows, kind, raw):
    separator = "," if kind == ".csv" else "\t"
    text = "\n".join(separator.join(row) for row in [head, *rows])
    (place / f"t{kind}").write_bytes(text.encode("utf-8", "surrogatepass") + raw)
    works_or_is_refused(lambda: unseen.load(place / f"t{kind}"))
    works_or_is_refused(lambda: unseen.load(place / f"t{kind}", target="x", text="label", id_column="index"))


VALUES = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=4),
    st.booleans(),
    st.binary(max_size=8),
    st.dates(),
    st.lists(st.integers(0, 9)),
]
VALUES += [st.fixed_dictionaries({"bytes": st.one_of(st.none(), st.binary(max_size=8)), "path": st.text(max_size=4)})]


@FUZZ
@given(data=st.data(), names=st.lists(st.sampled_from(["label", "index", "x", "y", "image", "id"]), min_size=1, max_size=4, unique=True))
def test_parquet(place, data, names):
    count = data.draw(st.integers(0, 6))
    columns = {}
    for name in names:
        values = (
            st.one_of(st.none(), data.draw(st.sampled_from(VALUES))) if data.draw(st.booleans()) else data.draw(st.sampled_from(VALUES))
        )
        columns[name] = data.draw(st.lists(values, min_size=count, max_size=count))
    features = data.draw(
        st.sampled_from(
            ["{}", "[]", '{"info": {"features": {"label": {"names": ["a", "b"]}}}}', "x", '{"info": 3}', '{"info": {"features": []}}']
        )
    )
    pl.DataFrame(columns, strict=False).write_parquet(place / "t.parquet", metadata={"huggingface": features})
    works_or_is_refused(lambda: unseen.load(place / "t.parquet"))
    (place / "hub").mkdir(exist_ok=True)
    (place / "hub" / "train-00000-of-00001.parquet").write_bytes((place / "t.parquet").read_bytes())
    works_or_is_refused(lambda: unseen.load(place / "hub"))


@FUZZ
@given(
    content=st.binary(max_size=60),
    start=st.sampled_from(
        [b"", b"PAR1", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"PK\x03\x04", b"\0\0\x08\x03", b"\x1f\x8b\x08", b"BM", b"II*\0"]
    ),
)
def test_bytes_under_any_name(place, content, start):
    for name in (
        "t.csv",
        "t.tsv",
        "t.parquet",
        "t.npz",
        "i/a/1.png",
        "i/b/1.tif",
        "x/train-images-idx3-ubyte",
        "x/train-labels-idx1-ubyte",
        "g/train-images-idx3-ubyte.gz",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(start + content)
    (place / "g/train-labels-idx1-ubyte.gz").write_bytes(start + content)
    for name in ("t.csv", "t.tsv", "t.parquet", "t.npz", "i", "x", "g"):
        works_or_is_refused(lambda name=name: unseen.load(place / name))


SHAPES = st.lists(st.integers(0, 4), max_size=4)
KINDS = st.sampled_from(["u1", "i8", "f4", "f8", "f2", "bool", "U3", "c8", "M8[s]", "S2"])


@FUZZ
@given(
    parts=st.lists(st.tuples(SHAPES, KINDS), min_size=1, max_size=5),
    names=st.permutations(["x", "y", "index", "x_test", "y_test"]),
    fill=st.sampled_from([0, 1, -1]),
)
def test_arrays(place, parts, names, fill):
    arrays = [np.full(shape, fill).astype(kind) for shape, kind in parts]
    np.savez(place / "t.npz", **dict(zip(names, arrays, strict=False)))
    works_or_is_refused(lambda: unseen.load(place / "t.npz"))
    works_or_is_refused(lambda: unseen.load(tuple(arrays)))


WORDS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="testrain[]:,0123456789-=/.@easydfcultwrongindex", max_size=16),
    st.sampled_from(
        [
            "test[:100]",
            "easy:0.2",
            "test[5:2]",
            "train[-1]",
            "index:3,17",
            "index:@nowhere",
            "high:aum:-1",
            "easy:nan",
            "class:",
            "low:",
            "x=easy:1e9",
        ]
    ),
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "run"
    return unseen.score("digits", limit=60, hidden=(32,), epochs=1, out=path, estimator="turnover", random_labels=0.1)


@FUZZ
@given(text=WORDS, other=WORDS)
def test_selections(digits, scored, text, other):
    works_or_is_refused(lambda: parse_queries(text, digits))
    works_or_is_refused(lambda: find_subsets([text, other], scored.examples, scored.scores, scored.classes))


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=60), st.text(max_size=60).map(lambda text: ("id,decision,label\n" + text).encode("utf-8", "surrogatepass"))
    ),
    kind=st.sampled_from([".csv", ".txt"]),
)
def test_decisions(place, content, kind):
    (place / f"d{kind}").write_bytes(content)
    works_or_is_refused(lambda: read_decisions(place / f"d{kind}"))


FLAGS = [
    "--epochs",
    "--lr",
    "--hidden",
    "--groups",
    "--limit",
    "--average",
    "--top",
    "--sort",
    "--queries",
    "--members",
    "--fraction",
    "--format",
    "--keep",
    "--points",
]
FLAGS += [
    "--subset",
    "--side",
    "--leave-one-out",
    "--random-labels",
    "--seeds",
    "--watch",
    "--train-on",
    "--batch-size",
    "--momentum",
    "--json",
    "--force",
    "--resume",
    "--width",
]
ARGUMENTS = st.one_of(
    st.sampled_from(["RUN", "digits", "0", "1", "-1", "0.5", "nan", "inf", "1e99", "", "all", "test[:2]", "label", "pdf", *FLAGS]),
    st.text(alphabet=string.printable, max_size=8),
)
LONG = {"recipe", "download", "selfcheck", "language"}
"""Commands that train or fetch what was not asked to be small."""


@FEW
@given(command=st.sampled_from(sorted(set(COMMANDS) - LONG)), words=st.lists(ARGUMENTS, max_size=6))
def test_the_command_line(scored, place, command, words):
    before = os.getcwd()
    os.chdir(place)
    small = ["--limit", "40", "--epochs", "1", "--hidden", "32", "--members", "2"] if command == "score" else []
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main([command, *small, *(str(scored.path) if word == "RUN" else word for word in words if word != "--epochs")])
    except SystemExit as stopped:
        status = stopped.code
    finally:
        os.chdir(before)
    assert status in (0, 2) and "Traceback" not in said.getvalue()
