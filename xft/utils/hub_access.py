"""Find out within seconds whether a model or a dataset of the hub can be downloaded, and explain why not."""

import os
from importlib import import_module
from pathlib import Path
from typing import Literal

from xft.errors import ConfigError, short_repr

TIMEOUT = 5.0
"""Seconds to wait for the hub."""
Kind = Literal["model", "dataset"]
PROBED: dict[Kind, str] = {"model": "config.json", "dataset": "README.md"}
"""File that is asked for."""


def check_access(name: str, kind: Kind, key: str) -> None:
    """Check that the hub gives a model or a dataset. Nothing is asked if it was downloaded before, or in offline mode.

    Args:
        name: ``owner/name``; a dataset may have ``:config`` after it.
        kind: what it is.
        key: key of the config that names it.

    Raises:
        ConfigError: it is missing, private or gated, or the hub cannot be reached.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    repository = name.partition(":")[0]
    if constants.HF_HUB_OFFLINE or _is_cached(repository, kind):
        return
    endpoint = constants.ENDPOINT
    has_token = bool(os.environ.get("HF_TOKEN")) or Path(constants.HF_TOKEN_PATH).is_file()
    try:
        # The page of a gated repository is public; its files are not.
        get_hf_file_metadata(hf_hub_url(repository, PROBED[kind], repo_type=kind), timeout=TIMEOUT)
    except EntryNotFoundError:
        return  # another file is asked for later
    except GatedRepoError as error:
        problem = f"{name}, a gated {kind}"
        fix = f"accept its terms at {endpoint}/{_page(repository, kind)}, and set HF_TOKEN or run `hf auth login`"
        raise ConfigError(
            key=key, got=problem, expected=f"a {kind} that you have access to", fix=fix
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        login = "" if has_token else "; if it is private, set HF_TOKEN or run `hf auth login`"
        expected = f"a {kind} of {endpoint}, or a folder"
        raise ConfigError(key=key, got=name, expected=expected, fix=f"check the name{login}") from error
    except HfHubHTTPError as error:
        problem = f"{name}, and {endpoint} answers with an error ({short_repr(str(error))})"
        raise ConfigError(key=key, got=problem, expected=f"a {kind} that can be downloaded") from error
    except network_errors() as error:
        fix = (
            "check the network, set HF_ENDPOINT to a mirror, or give a folder; HF_HUB_OFFLINE=1 uses only what was "
            "downloaded"
        )
        got = f"{name}, and {endpoint} cannot be reached ({type(error).__name__})"
        raise ConfigError(key=key, got=got, expected=f"a {kind} that can be downloaded", fix=fix) from error


def network_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a network that fails, and of an address that is none.

    The HTTP client of huggingface_hub is httpx in version 1, and httpx2 in version 2.
    """
    from huggingface_hub.errors import HfHubHTTPError

    client = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
    return client.HTTPError, client.InvalidURL, ConnectionError, TimeoutError


def _page(repository: str, kind: Kind) -> str:
    return repository if kind == "model" else f"datasets/{repository}"


def _is_cached(repository: str, kind: Kind) -> bool:
    """Return whether a snapshot of a repository is in the cache of the hub."""
    from huggingface_hub import constants

    folder = f"{kind}s--{repository.replace('/', '--')}"
    snapshots = Path(constants.HF_HUB_CACHE) / folder / "snapshots"
    return snapshots.is_dir() and any(snapshots.iterdir())
