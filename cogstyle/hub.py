"""The Hugging Face hub, by huggingface_hub (extra `hub`): repositories fetched into its cache, and pushed."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cogstyle.errors import FileError

REPO = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>\w[\w./-]*))?")
CLIENTS = ("huggingface_hub", "httpx", "httpx2", "requests")  # where its errors come from, by its version


class Cached(NamedTuple):
    """A repository of the cache at one revision."""

    name: str  # user/repo@revision
    folder: Path


def is_hub_name(name: str) -> bool:
    """Whether `name` is user/repo or user/repo@revision. Where `user` is a folder that is here, it is a path."""
    found = REPO.fullmatch(name)
    return found is not None and name[0] not in "." and not Path(found["repo"]).parent.is_dir()


def fetch(name: str, patterns: list[str]) -> Path:
    """The folder of the cache with the files of user/repo[@revision]; what it lacks is downloaded.

    Without a network, what is in the cache is taken.

    Args:
        patterns: of file names; no others are taken.

    Raises:
        FileError: if the hub has no such repository or revision, or it cannot be reached.
    """
    repo, revision = _parts(name)
    with _errors(f"cannot get {name!r} from the hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))


def push(name: str, files: Mapping[str, Path | bytes], *, message: str, private: bool = False) -> str:
    """Write files into a repository, made if it is not there, as one commit.

    Args:
        name: user/repo, or user/repo@branch.
        files: a path or the contents, by the name in the repository.

    Returns:
        The address of the commit.

    Raises:
        FileError: if the name is none, the hub cannot be reached, or it refuses.
    """
    repo, branch = _parts(name)
    with _errors(f"cannot push to {name!r}"):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi()
        api.create_repo(repo, private=private or None, exist_ok=True)
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        adds = [
            CommitOperationAdd(path, content if isinstance(content, bytes) else str(content))
            for path, content in files.items()
        ]
        return str(api.create_commit(repo, adds, commit_message=message, revision=branch).commit_url)


def model_card(text: str, metadata: Mapping[str, Any]) -> str:
    """A model card with metadata at its head; what the card says itself is kept."""
    with _errors("cannot write a model card"):
        from huggingface_hub import ModelCard

        head = "" if text.startswith("---") else "---\ntags: []\n---\n\n"
        card = ModelCard(head + text, ignore_metadata_errors=True)
        for key, value in metadata.items():
            if not card.data.get(key):
                card.data[key] = value
        return str(card)


def cached() -> list[Cached]:
    """What lies in the cache, at every revision; nothing without huggingface_hub."""
    try:
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return []
    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return sorted(
        Cached(f"{repo.repo_id}@{next(iter(sorted(revision.refs)), revision.commit_hash)}", revision.snapshot_path)
        for repo in repos
        for revision in repo.revisions
    )


def _parts(name: str) -> tuple[str, str | None]:
    found = REPO.fullmatch(name)
    if found is None:
        raise FileError(f"{name!r:.100} is no repository of the hub: it must be user/repo or user/repo@revision")
    return found["repo"], found["revision"]


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Whatever huggingface_hub raises, as one line that begins with `what`."""
    try:
        yield
    except ImportError:
        raise FileError(f'{what}: this needs huggingface_hub (pip install "cogstyle[hub]")') from None
    except Exception as error:
        rooms = {base.__module__.partition(".")[0] for base in type(error).__mro__}
        if not isinstance(error, OSError | ValueError) and rooms.isdisjoint(CLIENTS):
            raise
        raise FileError(f"{what}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    kind, line = type(error).__name__, next(iter(str(error).strip().splitlines()), "")
    known = {
        "RepositoryNotFoundError": "there is no such repository, or it is private and needs a token (hf auth login)",
        "GatedRepoError": "it asks for an agreement on its page first, and a token (hf auth login)",
        "RevisionNotFoundError": "there is no such revision",
        "LocalEntryNotFoundError": "it is not in the cache, and the hub cannot be reached; are you offline?",
        "IncompleteSnapshotError": "the cache holds a part of it only, and the hub cannot be reached; are you offline?",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
        "LocalTokenNotFoundError": "it needs a token (hf auth login)",
        "ConnectError": "the hub cannot be reached; are you offline?",
        "ConnectionError": "the hub cannot be reached; are you offline?",
    }
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) and kind == "HfHubHTTPError":
        return "it needs a token that may do this (hf auth login)"
    return known.get(kind) or line or kind
