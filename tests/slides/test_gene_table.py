"""Tables of genes that come with the package: what is in them, and what finds a gene in them."""

import importlib.util
import os
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.slides import gene_table as module
from omib_spatial.slides.gene_positions import arm_names, positions
from omib_spatial.slides.gene_table import gene_table, recognise_species, translate

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("OMIB_DATA", ROOT / "../shared/data"))
GENES = ROOT / "omib_spatial" / "slides" / "genes"
SPECIES = ["human", "mouse"]
KNOWN = {
    # GENCODE: id, chromosome, arm, band, start, end.
    "human": {
        "ERBB2": ("ENSG00000141736", "17", "q", "q12", 39687914, 39730426),
        "TP53": ("ENSG00000141510", "17", "p", "p13.1", 7661779, 7687546),
        "MYC": ("ENSG00000136997", "8", "q", "q24.21", 127735434, 127742951),
        "EGFR": ("ENSG00000146648", "7", "p", "p11.2", 55019017, 55211628),
        "XIST": ("ENSG00000229807", "X", "q", "q13.2", 73820649, 73852714),
        "MT-CO1": ("ENSG00000198804", "MT", "", "", 5904, 7445),
    },
    "mouse": {
        "Erbb2": ("ENSMUSG00000062312", "11", "q", "q", 98303296, 98328542),
        "Trp53": ("ENSMUSG00000059552", "11", "q", "q", 69471185, 69482699),
        "mt-Co1": ("ENSMUSG00000064351", "MT", "", "", 5328, 6872),
    },
}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"no {name} in {DATA}; set OMIB_DATA")


def some(species: str, n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Genes that have a symbol of their own, shuffled."""
    table = gene_table(species)
    table = table[(table["symbol"] != "") & ~table["symbol"].duplicated(keep=False)]
    return table.sample(n, random_state=seed)


def frame(names: object, **columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(list(names), dtype=object))  # type: ignore[call-overload]


# The tables.


def test_both_tables_are_small():
    assert sum(path.stat().st_size for path in GENES.iterdir()) < 2_000_000
    assert {path.name for path in GENES.iterdir()} == {"human.tsv.gz", "mouse.tsv.gz", "README.md"}


@pytest.mark.parametrize("species", SPECIES)
def test_tables_hold_what_they_promise(species):
    table = gene_table(species)
    assert list(table) == ["ensembl", "symbol", "chromosome", "arm", "band", "start", "end", "former"]
    assert table["ensembl"].is_unique and len(table) > 50_000
    assert table["ensembl"].str.fullmatch(r"ENSG\d{11}" if species == "human" else r"ENSMUSG\d{11}").all()
    chromosomes = [str(i) for i in range(1, 23 if species == "human" else 20)] + ["X", "Y", "MT"]
    assert set(table["chromosome"]) == set(chromosomes)
    assert table["start"].dtype == table["end"].dtype == np.int64
    assert (table["start"] >= 1).all() and (table["end"] >= table["start"]).all()
    assert (table.loc[table["chromosome"] != "MT", "arm"] != "").all()
    assert set(table["arm"]) == ({"p", "q", ""} if species == "human" else {"q", ""})
    assert not (table["symbol"] == table["ensembl"]).any()
    # No name means two genes, other than symbols, of which the first counts.
    former = table["former"][table["former"] != ""].str.split("|").explode()
    assert former.is_unique and not former.isin({*table["symbol"], *table["ensembl"]}).any()
    assert table["symbol"][table["symbol"] != ""].duplicated().sum() < 100


@pytest.mark.parametrize("species", SPECIES)
def test_genes_are_sorted_up_to_those_behind(species):
    table = gene_table(species)
    order = table["chromosome"].map({name: i for i, name in enumerate(table["chromosome"].unique())})
    ahead = order * 10**9 + table["start"]
    assert (ahead.diff()[1 : 50_000 if species == "human" else 55_000] >= 0).all()


@pytest.mark.parametrize(("species", "symbol"), [(s, symbol) for s in KNOWN for symbol in KNOWN[s]])
def test_known_genes_lie_where_they_lie(species, symbol):
    table = gene_table(species).set_index("symbol")
    columns = ["ensembl", "chromosome", "arm", "band", "start", "end"]
    assert tuple(table.loc[symbol, columns]) == KNOWN[species][symbol]


def test_tables_are_read_once_and_handed_out_as_copies():
    first = gene_table("human")
    first.loc[:, "chromosome"] = "nonsense"
    assert gene_table("human")["chromosome"].iat[0] == "1"
    assert module._table("human") is module._table("human")


def test_unknown_species_names_those_that_are_known():
    with pytest.raises(ValueError, match=r"\['human', 'mouse'\], not 'rat'.*columns of var"):
        gene_table("rat")


@pytest.mark.parametrize("species", SPECIES)
@needs("genes")
def test_tables_agree_with_an_independent_one(species):
    """Against another release (human: older), chromosomes 20/21 or 23/24 standing for X and Y."""
    other = pd.read_csv(DATA / "genes" / f"{species}.tsv.gz", sep="\t", dtype={"chromosome": str})
    sexes = {"23": "X", "24": "Y"} if species == "human" else {"20": "X", "21": "Y"}
    own = gene_table(species).set_index("ensembl")
    other = other[other["ensembl"].isin(own.index)]
    own = own.loc[other["ensembl"]]
    assert len(other) > 31_000
    chromosome = other["chromosome"].replace(sexes).to_numpy()
    shift = np.abs(other["start"].to_numpy() - own["start"].to_numpy())
    assert (chromosome == own["chromosome"].to_numpy()).all()
    assert (shift == 0).mean() > (0.57 if species == "human" else 0.82)
    assert (shift <= 1000).mean() > (0.89 if species == "human" else 0.93)
    assert (shift <= 50_000).mean() > (0.979 if species == "human" else 0.990)
    # Bands of genes near a boundary differ between releases, arms never do.
    assert (other["band"].to_numpy() == own["band"].to_numpy()).mean() > 0.991
    assert (other["band"].str[0].to_numpy() == own["arm"].to_numpy()).all()
    # Symbols and former symbols mean the same gene on the same chromosome, nearly always.
    found = module.rows_of(other["symbol"], species)
    there = found >= 0
    same = own["chromosome"].to_numpy()[there] == gene_table(species)["chromosome"].to_numpy()[found[there]]
    assert there.mean() > 0.93 and same.mean() > 0.999


@needs("her2st")
def test_places_agree_with_those_of_her2st():
    var = ad.read_h5ad(DATA / "her2st" / "A1.h5ad", backed="r").var
    own, looked_up = positions(var), positions(var[[]])
    assert own is not None and looked_up is not None and own.species == looked_up.species == "human"
    assert own.source.startswith("var['chromosome'], var['start'], var['end']")
    assert own.n_placed == int(var.notna().all(axis=1).sum()) < looked_up.n_placed
    np.testing.assert_array_equal(own.table["start"], var["start"])
    both = own.table["start"].notna() & looked_up.table["start"].notna()
    own_table, table = own.table[both], looked_up.table[both]
    assert both.mean() > 0.97
    assert (own_table["chromosome"] == table["chromosome"]).mean() > 0.999
    assert ((own_table["start"] - table["start"]).abs() <= 50_000).mean() > 0.99


# Species.

FILES = {
    "her2st/A1.h5ad": ("human", 0.995),
    "mob/MOB1.h5ad": ("mouse", 0.99),
    "prostate/prostate_normal_ffpe.h5ad": ("human", 0.97),
    "visium/msti_breast.h5ad": ("human", 0.99),
    "visium/mouse_section.h5ad": ("mouse", 0.98),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in FILES])
def test_species_of_real_slides_are_recognised_and_their_genes_placed(name):
    species, share = FILES[name]
    var = ad.read_h5ad(DATA / name, backed="r").var
    assert recognise_species(var.index) == species
    found = positions(var[[]])
    assert found is not None and found.species == species and found.n_placed > share * len(var)
    assert found.table.index.equals(var.index) and found.table["start"].notna().sum() == found.n_placed
    assert f"{found.n_placed:,} of {len(var):,} genes" in found.source and module.RELEASES[species] in found.source


@needs("crc16_outs")
def test_genes_of_a_space_ranger_output_are_placed_by_ids_and_by_symbols():
    with h5py.File(DATA / "crc16_outs" / "filtered_feature_bc_matrix.h5") as file:
        features = file["matrix/features"]
        ids, symbols = features["id"].asstr()[:], features["name"].asstr()[:]
    var = frame(symbols, gene_ids=ids)
    both, by_symbol, by_id = positions(var), positions(var[[]]), positions(frame(ids))
    assert both is not None and by_symbol is not None and by_id is not None
    assert "var['gene_ids']" in both.source and "var_names" in by_symbol.source
    assert both.n_placed == by_id.n_placed > 0.999 * len(var) and by_symbol.n_placed > 0.99 * len(var)
    known = (by_symbol.table["start"].notna() & both.table["start"].notna()).to_numpy()
    first = ~pd.Index(symbols).duplicated(keep=False)
    same = (by_symbol.table["chromosome"] == both.table["chromosome"]).to_numpy()
    assert same[known & first].mean() > 0.999
    # Nothing but the table links them here.
    found = translate(ids, frame(symbols))
    assert (found >= 0).mean() > 0.98
    # Names of clones slid by one between releases, to genes that lie beside.
    linked = found >= 0
    same = symbols[found[linked]] == symbols[linked]
    named = ~pd.Series(symbols[linked]).str.match(r"[A-Z]{1,2}\d+\.\d+$").to_numpy()
    assert same.mean() > 0.99 and same[named].mean() > 0.9995
    np.testing.assert_array_equal(translate(ids, var), np.arange(len(var)))


@pytest.mark.parametrize("kind", ["symbol", "ensembl"])
@pytest.mark.parametrize("species", SPECIES)
def test_species_are_recognised_among_strangers(species, kind):
    names = [*some(species, 60)[kind], *(f"Control_{i}" for i in range(40))]
    assert recognise_species(names) == species
    assert recognise_species(names + [f"Other_{i}" for i in range(40)]) is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([], id="none"),
        pytest.param(["gene0", "gene1", "g2", "7"], id="invented"),
        pytest.param([np.nan, None, ""], id="missing"),
        pytest.param(["erbb2", "tp53", "myca", "actb1"], id="zebrafish"),
        pytest.param(["ENSRNOG00000006450", "ENSDARG00000026017"], id="other species' ids"),
        pytest.param(["ERBB2", "TP53", "Erbb2", "Trp53"], id="xenograft"),
    ],
)
def test_other_names_have_no_species(names):
    assert recognise_species(names) is None
    assert positions(frame(names)) is None


def test_case_tells_mouse_from_human():
    symbols = pd.Series(["Erbb2", "Myc", "Actb", "Krt8", "Epcam"])
    assert recognise_species(symbols) == "mouse" and recognise_species(symbols.str.upper()) == "human"


def test_ids_and_symbols_may_be_mixed():
    assert recognise_species(["ERBB2", "ENSG00000141510.18", "MYC", "ENSG00000146648"]) == "human"


# Places: from columns of the user.

WRITTEN = [
    ("chromosome", "start", "end"),
    ("Chromosome", "Start", "End"),
    ("chrom", "chromStart", "chromEnd"),
    ("chr", "start_position", "end_position"),
    ("seqname", "gene_start", "gene_end"),
    ("seqnames", "START", "END"),
    ("chromosome_name", "start_position", "end_position"),
    ("Chromosome/scaffold name", "Gene start (bp)", "Gene end (bp)"),
    ("#chrom", "txStart", "txEnd"),
]


@pytest.mark.parametrize("spelling", WRITTEN, ids=lambda names: names[0])
def test_columns_of_the_user_win_in_any_spelling(spelling):
    chromosome, start, end = spelling
    columns = {chromosome: ["chr3", "3", "chrX"], start: [10, 5, 7], end: ["20", "15", "17"]}
    found = positions(frame(["ERBB2", "TP53", "MYC"], **columns))
    assert found is not None and found.n_placed == 3 and found.species == "human"
    assert list(found.table) == ["chromosome", "start", "end", "arm"]
    assert list(found.table["chromosome"]) == ["3", "3", "X"]
    assert list(found.table["start"]) == [10, 5, 7] and list(found.table["end"]) == [20, 15, 17]
    # The arm is the table's, and is unknown where the table has the gene elsewhere.
    assert found.table["arm"].isna().all()
    assert found.source == f"var[{chromosome!r}], var[{start!r}], var[{end!r}] place 3 of 3 genes."


def test_columns_of_the_user_take_the_arm_of_the_table_where_both_agree():
    found = positions(frame(["ERBB2", "TP53", "MYC"], chrom=["chr17", "17", "1"], start=[1, 2, 3], end=[4, 5, 6]))
    assert found is not None and list(found.table["arm"][:2]) == ["q", "p"] and pd.isna(found.table["arm"].iat[2])


def test_columns_of_the_user_place_genes_of_any_species():
    found = positions(frame(["x1", "x2"], seqname=pd.Categorical(["chr1", "chr2"]), start=[1, 2], end=[4, 5]))
    assert found is not None and found.species is None and found.n_placed == 2
    assert list(found.table["chromosome"]) == ["1", "2"]


def test_nullable_columns_and_equal_names_are_read():
    columns = {"chrom": pd.array(["chr17", None, "chr17"], "string"), "start": pd.array([1, None, 3], "Int64")}
    found = positions(frame(["ERBB2", "MYC", "ERBB2"], **columns, end=[7, 8, 9]))
    assert found is not None and found.n_placed == 2
    assert found.table["start"].tolist()[::2] == [1, 3] and found.table["start"].isna().tolist() == [False, True, False]
    assert found.table["arm"].tolist()[::2] == ["q", "q"]


def test_genes_without_a_place_of_the_user_have_none():
    columns = {"chromosome": ["chr1", None, "chrM", "", 4.0], "start": [1, 2, np.nan, 4, 5], "end": [9] * 5}
    found = positions(frame(["ERBB2", "TP53", "MYC", "EGFR", "KRT8"], **columns))
    assert found is not None and found.n_placed == 2
    assert list(found.table["start"].notna()) == [True, False, False, False, True]
    assert found.table["chromosome"].isna().tolist() == [False, True, True, True, False]
    assert found.table["chromosome"].iat[4] == "4"


@pytest.mark.parametrize("written", ["chrM", "M", "MT", "chrMT", "mt"])
def test_mitochondria_have_one_name(written):
    found = positions(frame(["a"], chrom=[written], start=[1], end=[2]))
    assert found is not None and list(found.table["chromosome"]) == ["MT"]


@pytest.mark.parametrize(
    "columns",
    [
        {"chromosome": ["5", "5"], "start": [1, 2]},
        {"start": [1, 2], "end": [3, 4]},
        {"chromosome": [None, None], "start": [1, 2], "end": [3, 4]},
        {"chromosome": ["5", "5"], "start": ["codon", "codon"], "end": [3, 4]},
    ],
)
def test_incomplete_columns_give_way_to_the_table(columns):
    found = positions(frame(["ERBB2", "TP53"], **columns))
    assert found is not None and "shipped table" in found.source
    assert list(found.table["chromosome"]) == ["17", "17"] and list(found.table["arm"]) == ["q", "p"]


def test_neither_columns_nor_names_place_anything():
    assert positions(frame(["g0", "g1"], chromosome=["1", "1"])) is None
    assert positions(pd.DataFrame()) is None


# Places: from names.


@pytest.mark.parametrize("column", ["gene_ids", "gene_id", "feature_id", "ensembl_id", "Ensembl", "gene_ids-0"])
def test_a_column_of_ids_places_genes_whose_index_says_nothing(column):
    table = some("mouse", 50)
    found = positions(frame(range(50), **{column: table["ensembl"].to_numpy()}))
    assert found is not None and found.n_placed == 50 and f"var[{column!r}]" in found.source
    np.testing.assert_array_equal(found.table["start"], table["start"])


@pytest.mark.parametrize("column", ["gene_name", "feature_name", "symbol", "SYMBOL", "gene_symbols", "GeneSymbol"])
def test_a_column_of_symbols_places_genes_whose_index_says_nothing(column):
    table = some("human", 50)
    found = positions(frame(range(50), **{column: pd.Categorical(table["symbol"])}))
    assert found is not None and found.n_placed == 50 and f"var[{column!r}]" in found.source
    np.testing.assert_array_equal(found.table["chromosome"], table["chromosome"])


def test_whatever_places_most_is_taken_and_of_equals_the_index():
    table = some("human", 20)
    symbols, ids = table["symbol"].to_numpy(object), table["ensembl"].to_numpy(object)
    worse = symbols.copy()
    worse[:3] = "unknown"
    assert "var['gene_ids'] place 20 of 20" in positions(frame(worse, gene_ids=ids)).source
    assert "var_names place 20 of 20" in positions(frame(symbols, gene_ids=ids)).source
    assert "var_names" in positions(frame(ids, gene_name=worse)).source


def test_missing_and_equal_names_are_placed_as_they_can():
    found = positions(frame(["ERBB2", "ERBB2", np.nan, "nonsense", "TP53"]))
    assert found is not None and found.n_placed == 3
    assert list(found.table["start"][[True, True, False, False, True]]) == [39687914, 39687914, 7661779]
    assert found.table["start"].isna().tolist() == [False, False, True, True, False]


def test_a_symbol_of_several_genes_means_one():
    table = gene_table("human")
    several = table[table["symbol"] == "CD99"]
    assert len(several) == 2 and set(several["chromosome"]) == {"X", "Y"}
    found = positions(frame(["CD99", *several["ensembl"]]))
    assert found is not None and list(found.table["chromosome"]) == ["X", "X", "Y"]


@pytest.mark.parametrize(
    ("old", "new"), [("H2AFZ", "H2AZ1"), ("C1orf112", "FIRRM"), ("RP11-34P13.3", "MIR1302-2HG"), ("MARCH1", "MARCHF1")]
)
def test_former_symbols_mean_what_they_meant(old, new):
    found = positions(frame([old, new, "ERBB2"]))
    assert found is not None and found.n_placed == 3
    assert found.table.iloc[0].equals(found.table.iloc[1])


def test_ids_that_a_release_dropped_lie_where_their_successor_lies():
    found = positions(frame(["ENSG00000116957", "TBCE"]))
    assert found is not None and found.table["start"].nunique() == 1 and found.n_placed == 2


# Properties.


@settings(max_examples=30)
@given(
    species=st.sampled_from(SPECIES),
    kind=st.sampled_from(["symbol", "ensembl"]),
    versions=st.lists(st.integers(0, 99), min_size=30, max_size=30),
    order=st.permutations(range(30)),
    seed=st.integers(0, 50),
)
def test_versions_and_order_do_not_matter(species, kind, versions, order, seed):
    table = some(species, 30, seed)
    names = table[kind].to_numpy(object)
    if kind == "ensembl":
        names = np.array([f"{name}.{v}" for name, v in zip(names, versions, strict=True)], object)
    found = positions(frame(names[list(order)]))
    assert found is not None and found.species == species and found.n_placed == 30
    np.testing.assert_array_equal(found.table["start"], table["start"].to_numpy()[list(order)])
    np.testing.assert_array_equal(found.table["chromosome"], table["chromosome"].to_numpy()[list(order)])


@settings(max_examples=30)
@given(
    species=st.sampled_from(SPECIES), upper=st.lists(st.booleans(), min_size=10, max_size=10), seed=st.integers(0, 50)
)
def test_a_minority_in_the_wrong_case_is_found_too(species, upper, seed):
    table = some(species, 40, seed)
    names = table["symbol"].to_list()
    names[:10] = [name.upper() if up else name.lower() for name, up in zip(names, upper, strict=False)]
    rows = module.rows_of(names, species)
    right = gene_table(species).index.get_indexer(table.index)
    assert ((rows == right) | (rows < 0))[:10].all() and (rows == right)[10:].all()
    assert (rows >= 0).mean() > 0.9


@settings(max_examples=30)
@given(
    species=st.sampled_from(SPECIES),
    order=st.permutations(range(25)),
    # A symbol alone may be one of several species, such as F5.
    kept=st.sets(st.integers(0, 24), min_size=5),
    swapped=st.booleans(),
    seed=st.integers(0, 50),
)
def test_translation_finds_the_gene_itself_both_ways(species, order, kept, swapped, seed):
    table = some(species, 25, seed)
    model, other = table["symbol"].to_numpy(), table["ensembl"].to_numpy() + ".7"
    if swapped:
        model, other = other, model
    order = [i for i in order if i in kept]
    found = translate(model, frame(other[order]))
    wanted = np.full(25, -1)
    wanted[order] = np.arange(len(order))
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.int64
    # There and back.
    back = translate(other[order], frame(model))
    np.testing.assert_array_equal(back, order)


# Translation.


def test_exact_names_come_before_everything_else():
    target = frame(["H2AFZ", "H2AZ1", "ENSG00000164032", "ENSG00000164032.3"])
    for position, name in enumerate(target.index):
        assert translate([name, "ERBB2"], target).tolist() == [position, -1]
    assert translate(["ENSG00000164032.9", "TP53"], target).tolist() == [2, -1]
    assert translate(["H2AZ1"], frame(["ERBB2", "H2AFZ"])).tolist() == [1]


def test_a_symbol_that_was_handed_on_still_links():
    twins = gene_table("human").query("symbol == 'CAST'")["ensembl"]
    assert list(twins) == ["ENSG00000153113", "ENSG00000310517"]
    for ensembl in twins:
        assert translate(["CAST", "TP53"], frame([ensembl])).tolist() == [0, -1]
        assert translate([ensembl], frame(["TP53", "CAST"])).tolist() == [1]
    assert translate(twins, frame(["CAST"])).tolist() == [0, -1]
    assert translate(["CAST"], frame(twins[::-1])).tolist() == [1]


def test_a_gene_of_the_target_is_taken_once():
    assert translate(["H2AZ1", "H2AFZ"], frame(["ENSG00000164032", "TP53"])).tolist() == [0, -1]
    assert translate(["H2AFZ", "H2AZ1"], frame(["H2AZ1"])).tolist() == [-1, 0]


def test_of_equal_names_in_the_target_the_first_counts():
    assert translate(["TP53", "b"], frame(["b", "TP53", "TP53"])).tolist() == [1, 0]


def test_other_columns_link_names_that_no_table_knows():
    target = frame(["one", "two", "three"], gene_ids=["ENSDARG00000000001.4", "ENSDARG00000000002", None])
    assert translate(["ENSDARG00000000002.1", "ENSDARG00000000001", "three"], target).tolist() == [1, 0, 2]


def test_nothing_is_translated_between_species():
    symbols = some("human", 30)["symbol"]
    assert (translate(symbols, frame(some("mouse", 30)["ensembl"])) == -1).all()
    assert (translate(["ERBB2", "MYC"], frame(["Erbb2", "Myc"])) == -1).all()
    assert (translate(["ERBB2", "MYC"], frame(["ENSMUSG00000062312", "ENSMUSG00000022346"])) == -1).all()


def test_translation_of_nothing_is_nothing():
    assert translate([], frame(["TP53"])).shape == (0,)
    assert translate(["TP53", np.nan], frame([])).tolist() == [-1, -1]


# The script.


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_gene_tables", ROOT / "scripts" / "make_gene_tables.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_script_puts_worse_genes_of_a_symbol_behind(script):
    genes = pd.DataFrame(
        {
            "ensembl": ["E5", "E4", "E3", "E2", "E1"],
            "symbol": ["A", "A", "", "", "B"],
            "kind": ["protein_coding", "lncRNA", "lncRNA", "lncRNA", "lncRNA"],
            "chromosome": ["X", "1", "2", "10", "2"],
            "start": [1, 1, 5, 1, 4],
            "fresh": [False] * 5,
        }
    )
    assert list(script.in_order(genes, "human")["ensembl"]) == ["E1", "E3", "E2", "E5", "E4"]
    genes["fresh"] = script.fresh(genes, [pd.DataFrame({"ensembl": ["E4"], "symbol": ["A"]})])
    assert list(script.in_order(genes, "human")["ensembl"]) == ["E4", "E1", "E3", "E2", "E5"]


def test_script_follows_old_names_to_the_gene_of_today(script):
    genes = pd.DataFrame({"ensembl": ["E1", "E2", "E9"], "symbol": ["A", "B", "A"]})
    newer = pd.DataFrame({"ensembl": ["E1", "E7"], "symbol": ["A2", "B"]})
    older = pd.DataFrame({"ensembl": ["E1", "E7", "E2", "E8"], "symbol": ["A1", "B1", "A2", "lost"]})
    olds = [script.Old(newer, True), script.Old(older, True)]
    found = list(script.formers(genes, {"A", "B"}, olds))
    # A2 stays with the gene that had it last; E7 had a symbol of E2, so what E7 was called before is E2's as well.
    assert found == [("E1", "A2"), ("E2", "E7"), ("E1", "A1"), ("E2", "B1")]


def test_script_keeps_retired_genes_that_have_a_place(script):
    genes = pd.DataFrame({"ensembl": ["E1"], "symbol": ["A"]})
    elsewhere = pd.DataFrame({"ensembl": ["E2", "E3"], "symbol": ["B", "C"], "start": [1, 2]})
    here = pd.DataFrame({"ensembl": ["E1", "E2", "E4"], "symbol": ["A", "B", "A"], "start": [3, 4, 5]})
    gone, lost = script.retired(genes, [script.Old(elsewhere, False), script.Old(here, True)])
    assert gone[["ensembl", "start"]].to_numpy().tolist() == [["E2", 4]] and lost == 1


def test_arms_are_named_in_human_and_chromosomes_in_mouse():
    human = positions(pd.DataFrame(index=["ERBB2", "TP53", "RB1", "MYC", "nothing"]))
    assert arm_names(human).tolist() == ["17q", "17p", "13q", "8q", ""]
    mouse = positions(pd.DataFrame(index=["Erbb2", "Trp53", "Rb1", "Myc"]))
    assert arm_names(mouse).tolist() == ["11", "11", "14", "15"]


def test_a_gene_without_an_arm_has_that_of_its_neighbour_and_a_stranger_its_chromosome():
    """Rows in disorder, and genes that no table knows: before TP53, behind ERBB2, and on a chromosome of their own."""
    var = pd.DataFrame(
        {"chromosome": [*["17"] * 4, "Q7", "8", "13"], "start": [4e7, 7.7e6, 1e6, 39.7e6, 5.0, 1.2e8, 4.8e7]},
        index=["behind", "TP53", "before", "ERBB2", "alone", "MYC", "RB1"],
    )
    var["end"] = var["start"] + 10
    assert arm_names(positions(var)).tolist() == ["17q", "17p", "17p", "17q", "Q7", "8q", "13q"]
