"""Adapters of several bundles, sampled as one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogstyle import hub
from cogstyle.bundle.manifest import IMAGE, WeightFile
from cogstyle.bundle.read import ADAPTERS, Bundle, holds_bundle, places
from cogstyle.bundle.remote import fetch_bundle
from cogstyle.config import require
from cogstyle.errors import BundleError

SHARED = (IMAGE, WeightFile.TOKENIZER, WeightFile.TEXT)  # what adapters that are sampled together have in common


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
        take(bundle, role, Bundle(_fetched(source)))
    if len(names) > 1:
        bundle.manifest["name"] = " ".join(map(str, names))
    return bundle


def _fetched(name: str | Path) -> str | Path:
    """`name`; of a bundle of the hub, which is nowhere else, its folder in the cache."""
    here = any(map(holds_bundle, places(name)))
    return name if here or not hub.is_hub_name(str(name)) else fetch_bundle(str(name))


def take(bundle: Bundle, stage: str, other: Bundle) -> None:
    """Take the adapter `stage` of another bundle on the same image model, with how it is sampled.

    Raises:
        BundleError: if `other` has no such adapter, or it stands on other files or sizes.
    """
    name = WeightFile.of(stage)
    other.sha256(name)
    for shared in SHARED:
        mine, theirs = bundle.manifest["files"].get(shared), other.manifest["files"].get(shared)
        if mine and theirs and mine != theirs:
            raise BundleError(
                f"{other.folder} and {bundle.folder} cannot be sampled together: the {stage} of the first stand on "
                f"another {shared} (sha256 {theirs[:12]}...) than that of the second ({mine[:12]}...)"
            )
    model, theirs_model = asdict(bundle.model_config), asdict(other.model_config)
    if bundle.manifest.get("text") != other.manifest.get("text"):
        raise BundleError(f"{other.folder} and {bundle.folder} cannot be sampled together: they differ in [text]")
    odd = [key for key in model if key != "window" and model[key] != theirs_model[key]]
    if odd or bundle.prompts != other.prompts:
        what = ", ".join(f"model.{key}" for key in odd) or "prompts"
        raise BundleError(f"{other.folder} and {bundle.folder} cannot be sampled together: they differ in {what}")
    manifest = bundle.manifest
    manifest["files"][name] = other.manifest["files"][name]
    manifest["sampling"] = {
        **manifest.get("sampling", {}),
        stage: other.manifest.get("sampling", {}).get(stage, {}),
    }
    if stage == "keyframes":
        manifest["frame_rate"] = other.frame_rate
    if stage == "interpolation":
        manifest["model"] = {**manifest["model"], "window": other.model_config.window}
    if stage == "superres":
        manifest["superres"] = other.manifest.get("superres", {})
    rates = other.manifest.get("trained_rates", {}).get(stage)
    manifest["trained_rates"] = {**manifest.get("trained_rates", {}), stage: rates or []}
    for key in ("growth", "lora"):
        tables = {**manifest.get(key, {}), stage: other.manifest.get(key, {}).get(stage)}
        manifest[key] = {role: table for role, table in tables.items() if table is not None}
    bundle.elsewhere[name] = other.path(name)
