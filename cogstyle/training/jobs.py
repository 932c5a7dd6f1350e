"""From a recipe to its training job: weights to begin with, and rows to train them on."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cogstyle.adapter import adapter_from_image, add_low_rank, grow
from cogstyle.bundle import Bundle, WeightFile, open_bundle
from cogstyle.config import ModelConfig, SuperResConfig, require
from cogstyle.data import shards
from cogstyle.errors import BundleError
from cogstyle.files import fingerprint
from cogstyle.growth_config import Grown, Lora
from cogstyle.model.grown import GrownAdapter
from cogstyle.tokenizers.image import ImageTokenizer
from cogstyle.training.batches import Batches, Resampling, groups_of, kinds_of, sizes_of
from cogstyle.training.ear import make_ear
from cogstyle.training.encoding import EncodeVideos, encode_videos
from cogstyle.training.export import Target
from cogstyle.training.flow import FlowJob
from cogstyle.training.job import Job, load_weights
from cogstyle.training.language import LanguageJob
from cogstyle.training.language_model import LanguageModelJob
from cogstyle.training.language_model_recipe import LanguageModelRecipe
from cogstyle.training.loss import VideoModel
from cogstyle.training.pairs import PairJob
from cogstyle.training.phrased import Pairs
from cogstyle.training.preference import Asking, GroupJob, PreferenceJob
from cogstyle.training.preference_recipe import PreferenceRecipe
from cogstyle.training.recipes import FlowDecoderRecipe, TokenizerRecipe, WeightRecipe
from cogstyle.training.rewards import Reward
from cogstyle.training.sharp import SharpConfig
from cogstyle.training.sources import Encoding, Pictures, SceneData, ScenePairs, ScenePictures
from cogstyle.training.stage_recipes import AdapterRecipe, ImageRecipe, LanguageRecipe, SuperresRecipe
from cogstyle.training.superres import SHOWN, FineRows, SuperResolutionJob
from cogstyle.training.tokenizer import TokenizerJob
from cogstyle.training.transformer import TransformerJob, fresh_transformer


def make_job(
    recipe: WeightRecipe,
    *,
    runs: Path = Path(),
    quiet: bool = False,
    encode: shards.Encode | None = shards.encode,
    encode_videos: EncodeVideos = encode_videos,
    into: Path | None = None,
) -> Job:
    """The training job of a recipe; encodes the data it needs under `runs`/data.

    Args:
        encode: gives the rows as `shards.encode` does; None: none are needed, for an export alone.
        encode_videos: gives those of videos.
        into: a bundle to write, in place of the recipe's.
    """
    folder = into or Path(recipe.bundle)
    options: dict[str, Any] = {
        "folder": runs / "data",
        "encode": encode,
        "encode_videos": encode_videos,
        "quiet": quiet,
    }
    job: TokenizerJob | FlowJob | LanguageModelJob | SuperResolutionJob | PreferenceJob | TransformerJob
    if isinstance(recipe, TokenizerRecipe):
        pictures = None if encode is None else _pictures(recipe, recipe.config.image_size, runs / "data", quiet=quiet)
        job = _tokenizer_job(recipe, folder, pictures)
    elif isinstance(recipe, FlowDecoderRecipe):
        job = _flow_job(recipe, options)
    elif isinstance(recipe, LanguageModelRecipe):
        job = _language_job(recipe, folder, wanted=encode is not None)
    elif isinstance(recipe, SuperresRecipe):
        job = _superres_job(recipe, folder, options)
    elif isinstance(recipe, LanguageRecipe):
        job = _hearing_job(recipe, folder, options)
    elif isinstance(recipe, PreferenceRecipe):
        job = _preference_job(recipe, folder, options)
    else:
        assert isinstance(recipe, ImageRecipe | AdapterRecipe)
        job = _transformer_job(recipe, folder, options)
    started = encode is not None or getattr(recipe, "train", None) == "new"  # what stays comes from the start
    if recipe.start is not None and started and not getattr(recipe, "grows", False):
        job.load_initial_weights(Bundle(recipe.start).weights(recipe.task))
    return job


def _tokenizer_job(recipe: TokenizerRecipe, folder: Path, pictures: Pictures | None) -> TokenizerJob:
    return TokenizerJob(
        recipe.config,
        pictures,
        batch=recipe.optim.batch,
        seed=recipe.seed,
        bundle=folder,
        decoder_only=recipe.train == "decoder",
        sharp=recipe.sharp or SharpConfig(),
        steps=recipe.optim.steps,
    )


def _pictures(recipe: TokenizerRecipe | FlowDecoderRecipe, size: int, cache: Path, *, quiet: bool) -> Pictures:
    return ScenePictures(size) if recipe.data is None else recipe.data.pictures(size, cache, quiet=quiet)


def _flow_job(recipe: FlowDecoderRecipe, options: dict[str, Any]) -> FlowJob:
    source, pictures = Bundle(recipe.bundle), None
    if options["encode"] is not None:
        size = source.tokenizer_config.image_size
        pictures = _pictures(recipe, size, options["folder"], quiet=options["quiet"])
    batch, share = recipe.optim.batch, recipe.from_noise
    return FlowJob(recipe.flow, source, pictures, batch=batch, seed=recipe.seed, from_noise=share)


def _language_job(recipe: LanguageModelRecipe, folder: Path, *, wanted: bool) -> LanguageModelJob:
    """`wanted`: the pairs are, not an export alone."""
    pairs: Pairs | None = recipe.data.read() if wanted else None
    world = "shapes" if isinstance(recipe.data, ScenePairs) else ""
    given: dict[str, Any] = {"batch": recipe.optim.batch, "seed": recipe.seed, "slips": recipe.slips}
    return LanguageModelJob(recipe.model, pairs, **given, bundle=folder, world=world)


def _superres_job(recipe: SuperresRecipe, folder: Path, options: dict[str, Any]) -> SuperResolutionJob:
    source, rows = Bundle(recipe.bundle), None
    sizes = SuperResConfig(factor=recipe.data.factor, text_span=source.model_config.text_span)
    if options["encode"] is not None:
        how = encoding(source, source.vqvae(), frames=1, factor=sizes.factor, **options)
        train, held_back = recipe.data.read((recipe.task,), how)[recipe.task]
        shown = recipe.data.validation_pictures(recipe.task, how, held_back, SHOWN)
        rows = FineRows(train, held_back, shown)
    given: dict[str, Any] = {"batch": recipe.optim.batch, "seed": recipe.seed}
    given |= {"caption_dropout": recipe.data.caption_dropout, "copy_output": recipe.copy_output}
    return SuperResolutionJob(source, folder, sizes, rows, **given)


def _hearing_job(recipe: LanguageRecipe, folder: Path, options: dict[str, Any]) -> LanguageJob:
    source, kinds, planned = Bundle(recipe.source), (recipe.stage,), options["encode"] is not shards.encode
    image, vqvae, batches = source.image_model(), source.vqvae(), None
    adapter = source.adapter("keyframes") if recipe.stage == "keyframes" else None
    captions, folders = list[str](), [options["folder"] / "states"]
    if options["encode"] is not None:
        groups = groups_of(recipe.stage, image.config, recipe.optim.batch, None)
        rows = recipe.data.read(kinds, encoding(source, vqvae, frames=image.config.frames, **options))
        given: dict[str, Any] = {"seed": recipe.seed, "caption_dropout": recipe.data.caption_dropout}
        batches = Batches(groups, rows, alone=recipe.language.alone, **given)
        captions = [*batches.train.captions, *batches.held_back.captions, *recipe.loop.prompts]
        folders += getattr(recipe.data, "folders", ())
    torch.manual_seed(recipe.seed)
    ear = make_ear(source, recipe.language, captions, folders, keep=not planned, quiet=options["quiet"])
    return LanguageJob(VideoModel(image, adapter, source.text(), vqvae, ear=ear), batches, folder, source, ear)


def _preference_job(recipe: PreferenceRecipe, folder: Path, options: dict[str, Any]) -> PreferenceJob:
    start, base, asking = recipe.start or "", recipe.source, None
    source = open_bundle([start] if base == start else [base, f"keyframes={start}"])
    if options["encode"] is not None:
        names = WeightFile.TOKENIZER, WeightFile.TEXT, WeightFile.IMAGE, WeightFile.KEYFRAMES
        reward, how = Reward(recipe.reward), recipe.preference
        parts: tuple[object, ...] = (
            [source.hashes().get(name) for name in names],
            source.frame_rate,
            recipe.seed,
            recipe.data,
            how.group,
        )
        parts = *parts, how.frame_rate, recipe.data.identity(), recipe.reward, reward.digests
        kept = options["folder"] / f"preference-{fingerprint(*parts)}"
        planned = options["encode"] is not shards.encode  # a plan keeps nothing
        asking = Asking(recipe.data.read(), reward, None if planned else kept)
    target = Target("keyframes", folder, source, source.growth.keyframes, source.lora.keyframes)
    make = GroupJob if recipe.preference.method == "grpo" else PairJob
    return make(source, recipe.preference, asking, target, batch=recipe.optim.batch, seed=recipe.seed)


def _transformer_job(recipe: ImageRecipe | AdapterRecipe, folder: Path, options: dict[str, Any]) -> TransformerJob:
    mix, train_all, new_only, curriculum = None, False, False, recipe.curriculum
    grown: tuple[Grown | None, Lora | None] = None, None
    source = Bundle(recipe.source)
    if isinstance(recipe, AdapterRecipe):
        mix, train_all, grown = recipe.mix, recipe.train_all, grown_of(recipe, source)
        new_only = recipe.growth is not None and recipe.growth.train == "new"
    else:
        grown, new_only = (grown_image(recipe), None), recipe.train == "new"
    target = Target(recipe.task, folder, source, *grown, train_all=train_all)
    torch.manual_seed(recipe.seed)
    model = (
        new_image_model(source, recipe.architecture(source))
        if isinstance(recipe, ImageRecipe)
        else _adapted(source, recipe, *grown)
    )
    config, batches = model.transformer.config, None
    if options["encode"] is not None:
        pixels = model.vqvae.config.rate
        if curriculum is not None:
            curriculum.check_grids(recipe.task, config, pixels)
        continuation = recipe.data.continuation if isinstance(recipe.data, SceneData) else 0.0
        groups = groups_of(recipe.task, config, recipe.optim.batch, mix, curriculum, continuation=continuation)
        options |= {"frames": config.frames, "sizes": sizes_of(groups, pixels)}
        rows = recipe.data.read(kinds_of(groups), encoding(source, model.vqvae, **options))
        given: dict[str, Any] = {"seed": recipe.seed, "caption_dropout": recipe.data.caption_dropout}
        batches = Batches(groups, rows, mix=mix, curriculum=curriculum, steps=recipe.optim.steps, **given)
        if recipe.resample:
            batches.resampling = resampling(source, recipe.resample)
    return TransformerJob(model, batches, target, train_all=train_all, new_only=new_only)


def resampling(source: Bundle, share: float) -> Resampling:
    """How tokens are resampled in the clusters of a bundle.

    Raises:
        BundleError: if it has none.
    """
    if (labels_V := source.cluster_labels()) is None:
        raise BundleError(f"resample {share} draws within clusters, and {source.folder} has no {WeightFile.CLUSTERS}")
    return Resampling(share, labels_V)


def new_image_model(source: Bundle, config: ModelConfig) -> VideoModel:
    """An untrained image model on the tokenizers of a bundle."""
    source.manifest["model"] = asdict(config)
    return VideoModel(fresh_transformer(config), None, source.text(), source.vqvae())


def grown_image(recipe: ImageRecipe) -> Grown | None:
    """The layers that the image model of its start has grown, as trained by the recipe.

    Raises:
        ConfigError: if new layers shall train, and there are none.
    """
    grown = None if recipe.start is None else Bundle(recipe.start).growth.image
    trains = recipe.train != "new" or grown is not None
    require(trains, f'train "new": the image model of start {recipe.start} has not grown; see `cogstyle grow`')
    return None if grown is None else replace(grown, trained=recipe.train or "all")


def grown_of(recipe: AdapterRecipe, source: Bundle) -> tuple[Grown | None, Lora | None]:
    """The layers of its own and the low-rank additions of the adapter that trains: the recipe's, or those of its start.

    Raises:
        ConfigError: if the layers do not divide, or what grows has grown already or stands on another image model.
    """
    if recipe.start is None:
        return None, None
    start = Bundle(recipe.start)
    found: tuple[Grown | None, Lora | None] = getattr(start.growth, recipe.task), getattr(start.lora, recipe.task)
    if not recipe.grows:
        grown, lora = found
        return None if grown is None else replace(grown, trained="all" if recipe.train_all else "new+adapter"), lora
    require(found == (None, None), f"the {recipe.task} of start {start.folder} have grown already")
    mine, theirs = source.sha256(WeightFile.IMAGE), start.sha256(WeightFile.IMAGE)
    require(
        mine == theirs,
        f"the {recipe.task} of start {start.folder} stand on another image model (sha256 {theirs[:12]}...) than "
        f"that of {source.folder} ({mine[:12]}...)",
    )
    if (growth := recipe.growth) is None:
        return None, recipe.lora
    after = growth.after(source.model_config.layers)
    return Grown(growth.how, growth.blocks, after, trained=growth.train), None


def _adapted(source: Bundle, recipe: AdapterRecipe, grown: Grown | None, lora: Lora | None) -> VideoModel:
    image = source.image_model()
    window = image.config.window if recipe.task == "interpolation" else 0
    adapter = adapter_from_image(image, window=window, copy_output=recipe.copy_output)
    if recipe.grows:
        assert recipe.start is not None
        load_weights(adapter, Bundle(recipe.start).weights(recipe.task))
        if recipe.growth is not None:
            adapter = grow(image, adapter, recipe.growth)
        elif lora is not None:
            adapter = add_low_rank(adapter, lora)
    elif grown is not None or lora is not None:  # the adapter of `start` has grown: its weights come later
        after = () if grown is None else grown.after
        adapter = GrownAdapter(image.config, window=window, after=after, lora=lora)
    return VideoModel(image, adapter, source.text(), source.vqvae(), pb_relax=recipe.pb_relax)


def encoding(source: Bundle, vqvae: ImageTokenizer, **options: Any) -> Encoding:
    """How rows become tokens of a bundle's tokenizers."""
    return Encoding(source, vqvae, source.text(), source.sha256(WeightFile.TOKENIZER), **options)
