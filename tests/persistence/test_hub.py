"""The hub's side of saving, without a hub: its cache stands in for downloads, and uploads end before the network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, PyTorchModelHubMixin

import vae_flows as vf
from vae_flows.errors import CheckpointError, FileError
from vae_flows.persistence.hub import HubModel

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def posterior() -> vf.AmortizedPosterior:
    return vf.AmortizedPosterior(2, 3, "planar", num_layers=2)


def put_in_cache(folder: Path, cache: Path) -> None:
    """Lay a folder where the hub's client keeps the repository owner/model."""
    repository = cache / "models--owner--model"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


def test_the_mixin_is_the_hubs_own() -> None:
    assert issubclass(HubModel, PyTorchModelHubMixin)
    for name in ("push_to_hub", "save_pretrained", "from_pretrained", "generate_model_card"):
        assert callable(getattr(HubModel, name))
    for cls in (vf.VAE, vf.AmortizedPosterior):
        for name in ("push_to_hub", "save_pretrained", "from_pretrained"):
            assert callable(getattr(cls, name))


def test_a_downloaded_model_is_loaded(posterior: vf.AmortizedPosterior, tmp_path: Path) -> None:
    posterior.save_pretrained(tmp_path / "model")
    put_in_cache(tmp_path / "model", tmp_path / "cache")
    loaded = vf.AmortizedPosterior.from_pretrained(
        "owner/model", cache_dir=tmp_path / "cache", local_files_only=True, revision="main"
    )
    assert not loaded.training
    for name, tensor in posterior.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_downloaded_model_is_checked(posterior: vf.AmortizedPosterior, tmp_path: Path) -> None:
    posterior.save_pretrained(tmp_path / "model")
    put_in_cache(tmp_path / "model", tmp_path / "cache")
    with pytest.raises(CheckpointError, match="expected class VAE, got class AmortizedPosterior"):
        vf.VAE.from_pretrained("owner/model", cache_dir=tmp_path / "cache", local_files_only=True)


@pytest.mark.parametrize("source", ["owner/absent", "no/such/folder", "./folder", ""])
def test_what_is_neither_folder_nor_repository_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"'{source}': expected a folder, or a repository .*, got neither"):
        vf.VAE.from_pretrained(source, cache_dir=tmp_path, local_files_only=True)


def test_an_upload_holds_model_and_card(
    posterior: vf.AmortizedPosterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Created:
        repo_id = "owner/model"

    uploads: list[dict[str, Any]] = []

    def upload_folder(self: HfApi, *, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, tmp_path / "uploaded")
        uploads.append(options)
        return "the commit's address"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, **options: Created)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    address = posterior.push_to_hub("owner/model", branch="trained")
    assert address == "the commit's address"
    assert (uploads[0]["repo_id"], uploads[0]["revision"]) == ("owner/model", "trained")
    vf.AmortizedPosterior.from_pretrained(tmp_path / "uploaded")
    card = (tmp_path / "uploaded" / "README.md").read_text()
    assert "library_name: vae-flows" in card
    assert "vf.AmortizedPosterior.from_pretrained" in card


@pytest.mark.parametrize("error", [OSError("no network\nat all"), ValueError("no repository")])
def test_an_upload_that_fails_is_told_in_one_line(
    posterior: vf.AmortizedPosterior, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: HfApi, **options: Any) -> None:
        raise error

    monkeypatch.setattr(HfApi, "create_repo", fail)
    with pytest.raises(FileError, match=r"'owner/model': expected an upload .*, got an error \(no \w+\)\. Check"):
        posterior.push_to_hub("owner/model")
