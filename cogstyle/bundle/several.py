"""Adapters of several bundles, sampled as one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cogstyle import hub
from cogstyle.bundle.read import ADAPTERS, Bundle, holds_bundle, places
from cogstyle.bundle.remote import fetch_bundle
from cogstyle.config import require


def open_bundle(names: Sequence[str | Path], **options: Any) -> Bundle:
    """One bundle, or adapters of several that stand on one image model.

    Args:
        names: of bundles, as `Bundle` takes them, or on the hub (user/repo[@revision]), or `ROLE=bundle`, where ROLE
            is one of `ADAPTERS`: that adapter alone is taken from there. One at most is a bundle without role; image
            model and tokenizers are its, or those of the first.
        options: `dtype` and `packed` of `Bundle`.

    Raises:
        BundleError: if one is missing, or what is taken does not belong together.
        FileError: if the hub has none of this name, or cannot be reached.
        ConfigError: for two bundles without role, a role named twice, or none at all.
    """
    require(bool(names), "no bundle is named")
    parts: dict[str, str] = {}
    whole: list[str | Path] = []
    for name in names:
        role, is_part, source = str(name).partition("=")
        if not is_part or role not in ADAPTERS or holds_bundle(Path(name)):
            whole.append(name)
            continue
        require(role not in parts, f"{role} are named twice: {parts.get(role)} and {source}")
        parts[role] = source
    require(
        len(whole) < 2,
        f"{' and '.join(map(str, whole))} are two whole bundles; take an adapter of one as ROLE=BUNDLE, "
        f"ROLE one of {', '.join(ADAPTERS)}",
    )
    bundle = Bundle(_fetched(whole[0] if whole else next(iter(parts.values()))), **options)
    for role, source in parts.items():
        bundle.take(role, Bundle(_fetched(source)))
    if len(names) > 1:
        bundle.manifest["name"] = " ".join(map(str, names))
    return bundle


def _fetched(name: str | Path) -> str | Path:
    """`name`; of a bundle of the hub, which is nowhere else, its folder in the cache."""
    here = any(map(holds_bundle, places(name)))
    return name if here or not hub.is_hub_name(str(name)) else fetch_bundle(str(name))
