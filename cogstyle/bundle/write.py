"""Write bundles: new files beside the old ones, the manifest last, then the old ones are removed.

A kill or a full disk at any moment leaves the old bundle or the new one. A folder has one writer at a time.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from cogstyle.bundle.manifest import (
    FOUNDATIONS,
    IMAGE,
    LANGUAGE,
    WeightFile,
    find_file,
    foundations,
    hashed_name,
    is_hashed_name,
    read_manifest,
    write_manifest,
)
from cogstyle.bundle.read import ADAPTERS, Bundle, holds_bundle
from cogstyle.errors import BundleError, FileError
from cogstyle.files import one_writer, sha256, whole_file, whole_folder, write_tensors

WAIT = 5.0  # seconds that a writer waits for another one
_held: set[Path] = set()

ADAPTERS_SAID = ("superres", "trained_rates", "words", "growth", "lora", "language")

Content = bytes | Mapping[str, Tensor]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock the bundle `folder` for this process; may be nested. It is made if needed, and removed if it stays empty.

    Raises:
        FileError: if another process is writing it, or it cannot be made.
    """
    try:
        real = folder.resolve()
    except ValueError as error:
        raise BundleError(f"cannot write {str(folder)!r}: {error}") from None
    if real in _held:
        yield
        return
    with ExitStack() as stack:
        until, there = time.monotonic() + WAIT, real.is_dir()
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(one_writer(folder))
                break
            except OSError as error:
                raise BundleError(f"cannot write {folder}: {error.strerror or error}") from None
            except FileError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        _held.add(real)
        try:
            yield
        finally:
            _held.discard(real)
            if not there:
                with suppress(OSError):  # it holds something
                    folder.rmdir()


@contextmanager
def new_bundle(folder: Path) -> Iterator[Path]:
    """A folder to write a bundle to, which takes its name only if the block ends without an error.

    Raises:
        FileError: if `folder` exists or cannot be written.
    """
    with whole_folder(folder) as scratch:
        _held.add(scratch.resolve())
        try:
            yield scratch
        finally:
            _held.discard(scratch.resolve())


def check_shared_files(source: Bundle, folder: Path, names: Sequence[str]) -> None:
    """Validate that a bundle in `folder` holds the files of `source` under these names; else raise BundleError."""
    if not holds_bundle(folder):
        return
    mine, theirs = source.hashes(), Bundle(folder).hashes()
    if other := [name for name in names if name in theirs and theirs[name] != mine.get(name)]:
        raise BundleError(f"{folder} has another {', '.join(other)} than {source.folder}; name a new folder")


def check_replaced(folder: Path, names: Sequence[str]) -> None:
    """Validate that nothing else in a bundle stands on the files that would be replaced; else raise BundleError."""
    if holds_bundle(folder):
        _check_replaced(folder, read_manifest(folder), names, names)


def _check_replaced(folder: Path, manifest: dict[str, Any], changed: Sequence[str], written: Sequence[str]) -> None:
    files, marks = manifest["files"], manifest.get("stands_on", {}).get(IMAGE, {})
    for name in changed:
        standing = [IMAGE] if name in marks and IMAGE in files else []
        if name == IMAGE and name in files:
            standing = [name for name in (*map(WeightFile.of, ADAPTERS), *LANGUAGE) if name in files]
        if name == WeightFile.TOKENIZER and WeightFile.FLOW in files:
            standing.append(WeightFile.FLOW)
        if standing := [other for other in standing if other not in written]:
            raise BundleError(
                f"{', '.join(standing)} of {folder} stand on its {name}, which another would replace; name a new "
                "folder for what you make"
            )


def share_files(source: Bundle, folder: Path, names: Sequence[str]) -> None:
    """Share files of `source` with the bundle `folder`, and copy the manifest but for what it says of adapters.

    They are hard links where the disk allows it: no bundle changes a file, it writes a new one in its place.

    Raises:
        BundleError: if `folder` holds others, or cannot be written.
    """
    with writing(folder):
        check_shared_files(source, folder, names)
        if holds_bundle(folder):
            manifest = read_manifest(folder)
        else:
            said = source.manifest
            sampling = {stage: table for stage, table in said.get("sampling", {}).items() if stage == "image"}
            manifest = {**said, "name": folder.resolve().name, "sampling": sampling, "files": {}}
            for key in (*ADAPTERS_SAID, "language_model", "recaption", "world"):
                manifest.pop(key, None)
            if openings := said.get("words", {}).get("openings"):  # other captions have other words, but begin alike
                manifest["words"] = {"openings": openings}
            if IMAGE not in names:
                manifest.pop("stands_on", None)
            if WeightFile.TEXT not in names:  # the vocabulary of a model is that of its tokenizers
                manifest.pop("model", None)
        files = manifest["files"]
        with _undone_on_failure(folder) as made:
            for name in names:
                if source.has(name) and name not in files:
                    files[name] = source.sha256(name)
                    made.append(_new_path(folder, name, files[name]))
                    _link(source.path(name).resolve(), made[-1])
            write_manifest(folder, manifest)


@contextmanager
def _undone_on_failure(folder: Path) -> Iterator[list[Path]]:
    """Collect paths of new files; if the block fails, those that the manifest does not name are removed."""
    made: list[Path] = []
    try:
        yield made
    except BaseException as error:
        named = read_manifest(folder)["files"] if holds_bundle(folder) else {}  # it may be the new one already
        for path in set(made) - {find_file(folder, name, digest) for name, digest in named.items()}:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BundleError(f"cannot write {folder}: {error}") from None
        raise


def _link(path: Path, target: Path) -> None:
    if target.exists() and path.samefile(target):
        return
    try:
        os.link(path, target)
    except OSError:  # another disk, one without links, or a name that is taken
        with path.open("rb") as source, whole_file(target) as file:
            shutil.copyfileobj(source, file, 1 << 20)


def _new_path(folder: Path, name: str, digest: str, old: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Path of a file to be added: its plain name if that is free, else the name that carries its hash."""
    if old.get(name) == digest:
        return find_file(folder, name, digest)
    return folder / (hashed_name(name, digest) if name in old or (folder / name).exists() else name)


def update_bundle(
    folder: Path,
    files: Mapping[str, Content],
    *,
    half: bool = True,
    progress: Callable[[int], None] = lambda size: None,
    same_codes: bool = False,
    **tables: Any,
) -> None:
    """Write files into a bundle and note them, with `tables`, in its manifest; the manifest comes last.

    Adapters are marked with the sha256 of the image model they belong to, the manifest says which tokenizers the
    image model stands on. `tables` are dataclasses, dicts (laid over what the manifest holds under that key; None takes
    out) or plain values. A bundle that did not exist is gone again if anything fails.

    Args:
        half: keep floating-point tensors as float16; otherwise as they are.
        progress: called with the bytes of every tensor that is written.
        same_codes: a new image tokenizer codes as the old one did, so that the image model stays valid.

    Raises:
        FileError: if it cannot be written, or another process is writing it.
        BundleError: if something stands on a file that would change, or an adapter has no image model to stand on.
    """
    with writing(folder):
        fresh: dict[str, Any] = {"name": folder.resolve().name, "files": {}}
        old = read_manifest(folder) if holds_bundle(folder) else fresh
        with _undone_on_failure(folder) as made:
            language = {**old.get("language", {}), **tables.get("language", {})}
            new = _write_files(folder, {**old, "language": language}, files, half, progress, made)
            changed = [name for name in files if old["files"].get(name, new["files"][name]) != new["files"][name]]
            if not same_codes:
                _check_replaced(folder, old, changed, list(files))
            for key, value in tables.items():
                table = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
                if isinstance(table, dict):
                    table = {name: one for name, one in {**new.get(key, {}), **table}.items() if one is not None}
                new[key] = table
            write_manifest(folder, new)
        _remove_replaced(folder, old["files"], new["files"])


def _write_files(
    folder: Path,
    manifest: dict[str, Any],
    files: Mapping[str, Content],
    half: bool,
    progress: Callable[[int], None],
    made: list[Path],
) -> dict[str, Any]:
    """Write files beside the old ones, and return the manifest that names them."""
    hashes = dict(manifest["files"])
    for name, content in files.items():

        def final(scratch: Path, name: str = name) -> Path:
            hashes[name] = sha256(scratch)
            made.append(_new_path(folder, name, hashes[name], manifest["files"]))
            return made[-1]

        if isinstance(content, bytes):
            with whole_file(folder / name, final=final) as file:
                file.write(content)
            continue
        base = {}
        if name in LANGUAGE or name.removesuffix(".safetensors") in ADAPTERS:
            if IMAGE not in hashes:
                raise BundleError(f"bundle {folder} has no {IMAGE} that {name} could stand on")
            base = {"base_sha256": hashes[IMAGE]}
        if name in LANGUAGE:
            stage = Path(name).stem.removeprefix("language-")
            base["llm_sha256"] = manifest["language"][stage]["sha256"]
        if name == WeightFile.FLOW:
            base = {"tokenizer_sha256": hashes[WeightFile.TOKENIZER]}
        tensors = {key: value.half() if half and value.is_floating_point() else value for key, value in content.items()}
        write_tensors(folder / name, tensors, base, progress=progress, final=final)
    new = {key: value for key, value in manifest.items() if value or key != "language"} | {"files": hashes}
    marks = manifest.get("stands_on", {}).get(IMAGE, {})
    if IMAGE in hashes:
        fresh = IMAGE in files  # else it keeps its marks, but for files that come now
        marks = foundations(hashes) if fresh else marks | {name: hashes[name] for name in FOUNDATIONS if name in files}
        new["stands_on"] = {**manifest.get("stands_on", {}), IMAGE: marks}
    return new


def _remove_replaced(folder: Path, old: dict[str, str], new: dict[str, str]) -> None:
    """Remove the files that the new ones replace, and what killed writers left of those."""
    kept = {find_file(folder, name, digest).name for name, digest in new.items()}
    ours = {name for name in old if (folder / name).is_file()}
    ours |= {entry for entry in os.listdir(folder) if any(is_hashed_name(entry, name) for name in new)}
    for name in ours - kept:
        with suppress(OSError):  # the next writer tries again
            (folder / name).unlink()
