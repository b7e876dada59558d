import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.core.fusion import Gaussian

WITHOUT_LABELS = [name for name, objective in omib.tl.OBJECTIVES.items() if not objective.needs_labels]
QUICK = {"max_epochs": 4, "enable_progress_bar": False, "library_key": "library_id"}


def tissue() -> ad.AnnData:
    """Three slices, the first without image: one process may be dealt spots that have none."""
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=150, n_genes=80)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    adata.obsm["X_extra"][:150] = np.nan
    return adata


def fitted(objective: str, **options) -> tuple[ad.AnnData, omib.tl.AnomalyModel]:
    adata = tissue()
    modalities = ["gene", "X_extra"]
    model = omib.tl.fit(
        adata,
        reference_key="healthy",
        objective=objective,
        config=replace(omib.tl.OBJECTIVES[objective].config, warmup_epochs=2, beta=0.05),
        modalities=modalities,
        accelerator="cpu",
        **QUICK,
        **options,
    )
    return adata, model


def weights(model: omib.tl.AnomalyModel) -> dict[str, torch.Tensor]:
    """All but the bias of the keys: attention is blind to it, so its gradient is rounding, which Adam blows up."""
    state = dict(model.network.state_dict())
    bias = state.pop("fusion.mix.attention.in_proj_bias")
    k = model.network.latent_dim
    return state | {"queries": bias[:k], "values": bias[2 * k :]}


def silence() -> None:
    """Each process draws noise of its own; without it two of them must do what one does."""
    Gaussian.sample = lambda self: self.mu  # type: ignore[method-assign]
    torch.Tensor.normal_ = lambda self, *args, **kwargs: self.zero_()  # type: ignore[method-assign]


def work(folder: Path) -> None:
    """What each of two processes runs."""
    silence()
    for objective in WITHOUT_LABELS:
        adata, model = fitted(objective, devices=2)
        rank = torch.distributed.get_rank()
        assert torch.distributed.get_world_size() == 2
        adata.write_h5ad(folder / f"{objective}{rank}.h5ad")
        torch.save(model.history, folder / f"{objective}{rank}.history")
        if rank == 0:
            model.save(folder / objective)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, folder]
    root = Path(omib.__file__).parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("objective", WITHOUT_LABELS)
def test_two_processes_learn_what_one_learns(two, objective):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gaussian, "sample", Gaussian.sample)
        patch.setattr(torch.Tensor, "normal_", torch.Tensor.normal_)
        silence()
        alone, model = fitted(objective)
    shared = omib.load(two / objective)
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(shared)[name], value, rtol=1e-3, atol=1e-5, msg=name)
    scores = [ad.read_h5ad(two / f"{objective}{rank}.h5ad").obs["omib_score"] for rank in range(2)]
    np.testing.assert_array_equal(*scores)
    np.testing.assert_allclose(scores[0], alone.obs["omib_score"], atol=5e-3)
    histories = [torch.load(two / f"{objective}{rank}.history") for rank in range(2)]
    for name, values in model.history.items():
        if name != "seconds":
            np.testing.assert_allclose(histories[0][name], values, rtol=1e-3, atol=1e-6, err_msg=name)
            np.testing.assert_array_equal(histories[0][name], histories[1][name])


if __name__ == "__main__":
    work(Path(sys.argv[1]))
