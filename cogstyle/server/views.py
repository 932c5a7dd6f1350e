"""How a job looks to clients: the fields of the video API, and what is ours beside them."""

from typing import Any

from cogstyle.server.jobs import Job


def view(job: Job, keep: float | None = None) -> dict[str, Any]:
    """The video object.

    Args:
        keep: seconds that a finished video is kept.
    """
    done = None if job.completed_at is None else int(job.completed_at)
    options = job.options
    return {
        "id": job.id, "object": "video", "model": job.model, "status": job.status, "progress": job.progress,
        "created_at": int(job.created_at), "completed_at": done,
        "expires_at": None if keep is None or done is None else int(done + keep),
        "prompt": job.prompt, "seconds": f"{job.seconds:g}", "size": job.size, "remixed_from_video_id": None,
        "error": None if job.error is None else {"code": "video_generation_failed", "message": job.error},
        "seed": options.seed, "frame_rate": options.frame_rate, "levels": options.levels, "num_frames": job.frames,
        "fps": (options.frame_rate or 0) * 2**options.levels, "pictures": job.pictures, "notes": list(job.notes),
    }  # fmt: skip
