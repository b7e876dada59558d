import json
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.datasets import simulate_tissue
from omib_spatial.modalities import Genome
from omib_spatial.modalities.catalog import choose_modalities
from omib_spatial.modalities.genome import FEWEST, MIN_PLACED, genes_in_order, windows
from omib_spatial.modalities.genome_rows import TRUSTED
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.gene_table import gene_table
from omib_spatial.stats.contiguity import BLOCK

LAYOUT = Layout(library_key="library_id")
SETTINGS = {"window": 31, "hops": 1, "min_fraction": 0.02}


@pytest.fixture(scope="module")
def tissue() -> ad.AnnData:
    return simulate_tissue(2, n_spots=120, n_genes=1500, n_healthy=2, image=False)


@pytest.fixture(scope="module")
def reference(tissue) -> np.ndarray:
    return np.arange(tissue.n_obs) % 5 > 0


@pytest.fixture(scope="module")
def genome(tissue, reference) -> Genome:
    genome = Genome(**SETTINGS)
    genome.fit(Tissue(tissue, LAYOUT), reference)
    return genome


def dense_profile(adata: ad.AnnData, genome: Genome, mask: np.ndarray) -> np.ndarray:
    """Brute-force twin: loops over spots, genes of a window, and neighbours."""
    counts = adata.X.toarray().astype(float)
    depth = counts.sum(1)
    graph = Tissue(adata, LAYOUT).graph.toarray() * mask[:, None] * mask + np.eye(len(mask))
    step = np.linalg.matrix_power(graph / graph.sum(1, keepdims=True), genome.hops)
    weight = step * np.minimum(1, TRUSTED * depth / genome.target_sum)
    weight /= weight.sum(1, keepdims=True)
    log = np.log1p(weight @ (counts / depth[:, None] * genome.target_sum))[:, adata.var_names.get_indexer(genome.genes)]
    scaled = np.clip((log - genome.mean.numpy()) / genome.scale.numpy(), -genome.clip, genome.clip)
    columns = []
    for name in dict.fromkeys(genome.chromosomes):
        mine = scaled[:, [c == name for c in genome.chromosomes]]
        width = min(genome.window, mine.shape[1])
        columns += [mine[:, i : i + width].mean(1) for i in range(0, mine.shape[1] - width + 1, max(width // 5, 1))]
    found = np.stack(columns, 1)
    return np.where(mask[:, None], found - found.mean(1, keepdims=True), np.nan)


def test_expression_of_a_profile_has_that_profile_and_is_the_least_that_has(tissue, genome):
    rows = genome.prepare(Tissue(tissue, LAYOUT))
    profile = rows.features(np.array([3]))[0].astype(np.float64)
    genes = rows.genes_of(profile)
    found = genes @ rows.averages.toarray()
    np.testing.assert_allclose(found - found.mean(), profile, atol=1e-5)
    own = rows.scaled(np.array([3]))[0]
    assert np.square(genes).sum() < np.square(own - own.mean()).sum()


def test_profile_equals_its_brute_force_twin(tissue, genome, reference):
    whole = np.ones(tissue.n_obs, bool)
    rows = genome.prepare(Tissue(tissue, LAYOUT))
    np.testing.assert_allclose(rows.profile, dense_profile(tissue, genome, whole), atol=2e-5)
    np.testing.assert_allclose(rows.masked(reference).profile, dense_profile(tissue, genome, reference), atol=2e-5)


def test_scaling_is_that_of_the_reference_alone(tissue, genome, reference):
    changed = tissue.copy()
    counts = changed.X.toarray()
    counts[~reference] = counts[~reference][:, ::-1]
    changed.X = sp.csr_matrix(counts)
    again = Genome(**SETTINGS)
    again.fit(Tissue(changed, LAYOUT), reference)
    assert again.genes == genome.genes and again.target_sum == genome.target_sum
    torch.testing.assert_close(again.mean, genome.mean)
    torch.testing.assert_close(again.scale, genome.scale)


def test_genes_are_in_genome_order_and_without_sex_chromosomes(tissue, genome):
    table = tissue.var.loc[genome.genes]
    assert not set(table["chromosome"]) & {"chrX", "chrY"}
    number = table["chromosome"].astype(str).str.removeprefix("chr").astype(int)
    assert (number.diff().dropna() >= 0).all()
    assert all((block["start"].diff().dropna() >= 0).all() for _, block in table.groupby(number))
    with_x = Genome(exclude=())
    with_x.fit(Tissue(tissue, LAYOUT), np.ones(tissue.n_obs, bool))
    assert "X" in with_x.chromosomes


def test_rows_and_gene_order_do_not_matter(tissue, genome):
    whole = genome.prepare(Tissue(tissue, LAYOUT)).profile
    rng = np.random.default_rng(0)
    spots, genes = rng.permutation(tissue.n_obs), rng.permutation(tissue.n_vars)
    mixed = genome.prepare(Tissue(tissue[spots, genes].copy(), LAYOUT)).profile
    np.testing.assert_allclose(mixed, whole[spots], atol=1e-5)


def test_one_slide_is_as_it_is_beside_another(tissue, genome):
    first = (tissue.obs["library_id"] == "slide1").to_numpy()
    alone = genome.prepare(Tissue(tissue[first].copy(), LAYOUT)).profile
    np.testing.assert_allclose(alone, genome.prepare(Tissue(tissue, LAYOUT)).profile[first], atol=1e-5)


def test_depth_drops_out(tissue, genome):
    deeper = tissue.copy()
    deeper.X = sp.csr_matrix(sp.diags_array(np.tile([1.0, 3.0], tissue.n_obs // 2)) @ tissue.X)
    np.testing.assert_allclose(
        genome.prepare(Tissue(deeper, LAYOUT)).profile, genome.prepare(Tissue(tissue, LAYOUT)).profile, atol=0.02
    )


def test_batches_and_pieces_are_rows_of_the_whole(tissue, genome, monkeypatch):
    whole = genome.prepare(Tissue(tissue, LAYOUT))
    some = np.array([7, 3, 200])
    np.testing.assert_array_equal(whole.batch(some).numpy(), whole.profile[some])
    np.testing.assert_array_equal(whole.features(some), whole.profile[some])
    monkeypatch.setattr("omib_spatial.modalities.genome_rows.CHUNK_VALUES", 5000)
    pieces = genome.prepare(Tissue(tissue, LAYOUT))
    assert len(pieces.chunks(np.arange(tissue.n_obs))) > 10
    np.testing.assert_allclose(pieces.profile, whole.profile, atol=1e-5)


def test_missing_genes_drop_out_of_their_windows(tissue, genome):
    full = genome.prepare(Tissue(tissue, LAYOUT)).profile
    with pytest.warns(UserWarning, match="genes are in var_names"):
        some = genome.prepare(Tissue(tissue[:, np.arange(tissue.n_vars) % 10 < 7].copy(), LAYOUT))
    assert np.corrcoef(full.ravel(), some.profile.ravel())[0, 1] > 0.6
    first = [g for g, c in zip(genome.genes, genome.chromosomes, strict=True) if c == "1"]
    with pytest.warns(UserWarning, match="genes are in var_names"):
        none = genome.prepare(Tissue(tissue[:, ~tissue.var_names.isin([*first, *genome.genes[-200:]])].copy(), LAYOUT))
    on_first = genome.window_positions()["chromosome"] == "1"
    assert np.isfinite(none.profile).all() and np.ptp(none.profile[:, on_first], axis=1).max() < 1e-6


def test_spots_without_counts_are_absent_and_lend_nothing(tissue, genome):
    empty = tissue.copy()
    counts = empty.X.toarray()
    counts[5] = 0
    empty.X = sp.csr_matrix(counts)
    rows = genome.prepare(Tissue(empty, LAYOUT))
    assert not rows.present[5] and np.isnan(rows.profile[5]).all() and np.isfinite(np.delete(rows.profile, 5, 0)).all()
    assert rows.graph[5].nnz == 0 and rows.weights[:, [5]].nnz == 0


def test_noise_falls_with_depth_and_with_neighbours(tissue, genome):
    rows, lone = genome.prepare(Tissue(tissue, LAYOUT)), genome.prepare(Tissue(tissue, LAYOUT))
    lone.hops = 0
    depth = np.asarray(tissue.X.sum(1)).ravel()
    np.testing.assert_allclose(lone.noise, genome.target_sum / depth, rtol=1e-5)
    assert (rows.noise < lone.noise.max()).all() and rows.noise.mean() < lone.noise.mean() / 3


def test_a_gained_and_a_lost_arm_are_found():
    """Half of a slide gains one arm and loses another: only the windows there move, up and down."""
    tissue = simulate_tissue(3, n_spots=150, n_genes=3000, n_healthy=3, image=False, seed=1)
    place = tissue.var["start"].to_numpy()
    on = {name: (tissue.var["chromosome"] == name).to_numpy() for name in ("chr3", "chr7")}
    gained, lost = on["chr3"] & (place < 90e6), on["chr7"] & (place > 70e6)
    target = (tissue.obs["library_id"] == "slide3").to_numpy()
    x = tissue.obsm["spatial"][:, 0]
    planted = target & (x < np.median(x[target]))
    counts, rng = tissue.X.toarray(), np.random.default_rng(0)
    counts[np.ix_(planted, gained)] += rng.poisson(0.6 * counts[np.ix_(planted, gained)])
    counts[np.ix_(planted, lost)] = rng.binomial(counts[np.ix_(planted, lost)].astype(int), 0.5)
    tissue.X = sp.csr_matrix(counts.astype(np.float32))
    genome = Genome(window=31)
    genome.fit(Tissue(tissue, LAYOUT), ~target)
    profile = genome.prepare(Tissue(tissue, LAYOUT)).profile
    places = genome.window_positions()
    arms = {
        name: (places["chromosome"] == name[3:]) & inside
        for name, inside in (("chr3", places["end"] < 90e6), ("chr7", places["start"] > 70e6))
    }
    change = profile[planted].mean(0) - profile[target & ~planted].mean(0)
    rest = ~(arms["chr3"] | arms["chr7"]) & ~np.isin(places["chromosome"], ["3", "7"])
    assert change[arms["chr3"]].min() > 3 * np.abs(change[rest]).mean()
    assert change[arms["chr7"]].max() < -3 * np.abs(change[rest]).mean()


def test_halves_are_means_over_blocks_of_genes_that_take_turns(tissue, genome, monkeypatch):
    rows, some = genome.prepare(Tissue(tissue, LAYOUT)), np.arange(20, 110)
    *halves, chromosome = rows.halves(some)
    scaled, columns = rows.scaled(some), [[], []]
    for name in dict.fromkeys(genome.chromosomes):
        genes = np.flatnonzero([c == name for c in genome.chromosomes])
        if n := len(genes) // (2 * BLOCK):
            for i in range(2 * n):
                block = genes[np.arange(len(genes)) * 2 * n // len(genes) == i]
                columns[i % 2].append(scaled[:, block].mean(1))
        assert (chromosome == name).sum() == n
    for found, expected in zip(halves, columns, strict=True):
        np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-5)
    monkeypatch.setattr("omib_spatial.modalities.genome_rows.CHUNK_VALUES", 7000)
    for found, expected in zip(rows.halves(some)[:2], halves, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_halves_of_a_target_that_lacks_genes_are_of_those_that_it_has(tissue, genome):
    known = np.isin(tissue.var_names, genome.genes[::2])
    few = tissue[:, known].copy()
    rows = genome.prepare(Tissue(few, LAYOUT))
    assert len(rows.chromosome) == known.sum() < len(genome.genes)
    one, other, chromosome = rows.halves(np.arange(10))
    assert one.shape == other.shape == (10, len(chromosome))


def test_a_saved_genome_is_the_same(tissue, genome):
    config, tensors = genome.state()
    again = Genome.from_state(json.loads(json.dumps(config)), tensors)
    np.testing.assert_array_equal(
        again.prepare(Tissue(tissue, LAYOUT)).profile, genome.prepare(Tissue(tissue, LAYOUT)).profile
    )
    assert json.dumps(again.state()[0]) == json.dumps(config)
    assert again.encoder()(torch.zeros(2, len(genome.window_positions()["start"]))).shape == (2, 256)


def test_target_needs_no_positions(tissue, genome):
    bare = tissue.copy()
    bare.var = bare.var[[]]
    genome.check(Tissue(bare, LAYOUT), required=False)
    np.testing.assert_array_equal(
        genome.prepare(Tissue(bare, LAYOUT)).profile, genome.prepare(Tissue(tissue, LAYOUT)).profile
    )


def test_it_is_taken_where_genes_have_places_and_says_what_to_do_where_not(tissue, caplog):
    assert "genome" in choose_modalities(Tissue(tissue, LAYOUT), None)
    bare = tissue.copy()
    bare.var = bare.var[["chromosome"]]
    with caplog.at_level(logging.WARNING, "omib_spatial"):
        assert "genome" not in choose_modalities(Tissue(bare, LAYOUT), None)
    assert len(caplog.records) == 1 and "infercnvpy.io.genomic_position_from_gtf" in caplog.text
    with pytest.raises(KeyError, match="start"):
        Genome().check(Tissue(bare, LAYOUT), required=True)


def test_unplaced_genes_are_an_error_when_asked_for(tissue):
    unplaced = tissue.copy()
    unplaced.var["chromosome"] = "chrX"
    assert not Genome.offered(Tissue(unplaced, LAYOUT))
    with pytest.raises(ValueError, match="excluded"):
        Genome().check(Tissue(unplaced, LAYOUT), required=True)


@pytest.mark.parametrize(
    "bad",
    [{"window": 0}, {"step": 0}, {"hops": -1}, {"clip": 0}, {"min_fraction": 2}, {"exclude": "X"}, {"window": "a"}],
)
def test_settings_out_of_range_are_refused(bad):
    (name,) = bad
    with pytest.raises((TypeError, ValueError), match=f"^{name} is "):
        Genome(**bad)


def test_a_misspelt_setting_is_answered_by_the_class():
    with pytest.raises(TypeError, match=r"^Genome\(\) has no argument widow=\. Did you mean window=\?$"):
        Genome(widow=5)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50), st.none() | st.integers(1, 9))
@settings(max_examples=50)
def test_windows_stay_on_their_chromosome(sizes, window, step):
    chromosomes = [str(i) for i, n in enumerate(sizes) for _ in range(n)]
    members = windows(chromosomes, window, step).toarray()
    for column in members.T:
        genes = np.flatnonzero(column)
        assert len({chromosomes[g] for g in genes}) == 1 and (np.diff(genes) == 1).all()
        assert len(genes) == min(window, sizes[int(chromosomes[genes[0]])])
    assert {chromosomes[np.flatnonzero(c)[0]] for c in members.T} == set(chromosomes)


def test_thin_chromosomes_and_unplaced_genes_are_left_out():
    var = pd.DataFrame(
        {"chromosome": ["chr2"] * FEWEST + ["chr1"] * FEWEST + ["KI27"] + [None], "start": 5.0, "end": 9.0}
    )
    var.iloc[0, 1] = 7.0
    placed = genes_in_order(var, ())
    assert placed["chromosome"].tolist() == ["1"] * FEWEST + ["2"] * FEWEST and placed.index[-1] == 0


# Without columns, by the package's table.


def learned(adata: ad.AnnData, **options) -> Genome:
    genome = Genome(**(SETTINGS | options))
    genome.fit(Tissue(adata), np.ones(adata.n_obs, bool))
    return genome


def in_table(symbols: list[str]) -> pd.DataFrame:
    table = gene_table("human")
    return table[~table["symbol"].duplicated()].set_index("symbol").loc[symbols]


def test_the_table_of_the_package_places_genes(planted):
    adata = planted(side=12)
    genome = learned(adata)
    table = in_table(genome.genes)
    assert len(genome.genes) > 1000 and genome.chromosomes == table["chromosome"].tolist()
    np.testing.assert_array_equal(genome.start, table["start"])
    np.testing.assert_array_equal(genome.end, table["end"])
    ahead = pd.DataFrame({"chromosome": table["chromosome"].astype(int), "start": table["start"]})
    assert ahead.equals(ahead.sort_values(["chromosome", "start"], kind="stable"))
    assert list(adata.var) == []


@pytest.mark.parametrize("kind", ["ids", "versions", "column", "own columns"])
def test_places_are_the_same_by_any_name_of_a_gene(planted, kind):
    adata, other = planted(side=12), planted(side=12)
    table = in_table(adata.var_names.tolist())
    if kind == "own columns":
        other.var = table[["chromosome", "start", "end"]]
    else:
        ids = table["ensembl"].to_numpy(object) + (".3" if kind == "versions" else "")
        other.var_names = [f"g{i}" for i in range(other.n_vars)] if kind == "column" else ids
        other.var["gene_ids"] = ids
    one, two = learned(adata), learned(other)
    assert one.chromosomes == two.chromosomes and torch.equal(one.start, two.start) and torch.equal(one.end, two.end)
    np.testing.assert_array_equal(one.prepare(Tissue(adata)).profile, two.prepare(Tissue(other)).profile)


@pytest.mark.parametrize(
    "spelling", [("Chromosome", "Start", "End"), ("chrom", "chromStart", "chromEnd"), ("seqname", "start", "end")]
)
def test_columns_of_the_user_in_any_spelling_win_over_the_table(planted, spelling, caplog):
    """Genes that the user puts elsewhere than the table does."""
    adata = planted(side=12)
    own = pd.DataFrame({"chromosome": np.arange(adata.n_vars) % 3 + 1, "start": np.arange(adata.n_vars)})
    columns = [[f"chr{name}" for name in own["chromosome"]], own["start"].to_numpy(), own["start"].to_numpy() + 5]
    adata.var = adata.var.assign(**dict(zip(spelling, columns, strict=True)))
    with caplog.at_level(logging.INFO, "omib_spatial"):
        assert Genome.offered(Tissue(adata))
    assert f"var[{spelling[0]!r}]" in caplog.text and "shipped table" not in caplog.text
    genome = learned(adata)
    at = adata.var_names.get_indexer(genome.genes)
    assert genome.chromosomes == own["chromosome"].astype(str).to_numpy()[at].tolist()
    np.testing.assert_array_equal(genome.start, at)
    assert set(genome.window_positions()["chromosome"]) == {"1", "2", "3"}


def test_one_line_of_the_log_says_what_placed_the_genes(planted, caplog):
    with caplog.at_level(logging.INFO, "omib_spatial"):
        assert "genome" in choose_modalities(Tissue(planted(side=12)))
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Expression along the genome is used: var_names place 1,500 of 1,500 genes (human, GENCODE")


@pytest.mark.parametrize(("n", "offered"), [(MIN_PLACED, True), (MIN_PLACED - 1, False)])
def test_few_genes_that_the_table_places_are_not_taken_without_being_asked_for(planted, n, offered, caplog):
    adata = planted(side=12)[:, :n].copy()
    with caplog.at_level(logging.INFO, "omib_spatial"):
        assert Genome.offered(Tissue(adata)) is offered
    (record,) = caplog.records
    assert record.levelno == (logging.INFO if offered else logging.WARNING)
    if not offered:
        assert record.getMessage().startswith("Expression along the genome is not used: var_names place 999 of 999")
        assert f"At least {MIN_PLACED} are needed" in record.getMessage() and "'genome'" in record.getMessage()
    # Whoever names it, or places the genes himself, has it.
    Genome().check(Tissue(adata), required=True)
    assert learned(adata).genes
    adata.var = in_table(adata.var_names.tolist())[["chromosome", "start", "end"]]
    assert Genome.offered(Tissue(adata))


@pytest.mark.parametrize("turned", [False, True])
def test_a_model_of_symbols_reads_a_target_of_ids_and_the_reverse(planted, turned):
    symbols, ids, target = planted(side=12), planted(side=12), planted(side=12, seed=1)
    ids.var_names = in_table(symbols.var_names.tolist())["ensembl"].to_numpy(object)
    other = target.copy()
    other.var_names = ids.var_names
    genome = learned(ids if turned else symbols)
    np.testing.assert_array_equal(genome.prepare(Tissue(target)).profile, genome.prepare(Tissue(other)).profile)


def test_windows_say_on_which_arm_most_of_their_genes_lie():
    table = gene_table("human")
    table = table[(table["chromosome"].isin(["1", "17"])) & (table["symbol"] != "") & ~table["symbol"].duplicated()]
    genome = Genome(window=51)
    genome.genes, genome.chromosomes = table["symbol"].tolist(), table["chromosome"].tolist()
    genome.start, genome.end = (torch.from_numpy(table[name].to_numpy(float)) for name in ("start", "end"))
    places, arms = genome.window_positions(), (table["chromosome"] + table["arm"]).to_numpy()
    members = windows(genome.chromosomes, 51).toarray() > 0
    brute = [max(sorted(set(arms[own])), key=lambda arm: (arms[own] == arm).sum()) for own in members.T]
    assert places["arm"].tolist() == brute and set(brute) == {"1p", "1q", "17p", "17q"}


def test_genes_of_one_window_are_no_profile(planted):
    adata = planted()
    symbols = gene_table("human").set_index("symbol")["chromosome"]
    names = [name for name in adata.var_names if symbols.get(name) == "7"]
    few = adata[:, names].copy()
    assert len(names) <= 101
    assert not Genome.offered(Tissue(few, Layout()))
    with pytest.raises(ValueError, match="in one window of chromosome '7'.*Leave 'genome' out"):
        Genome().check(Tissue(few, Layout()), required=True)
