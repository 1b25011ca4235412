"""In which format to answer."""

from __future__ import annotations

from metro_ray.serve.problems import ApiError
from metro_ray.serve.schema import MEDIA_TYPES, ErrorCode, Format


def choose_format(asked: Format | None, accepted: str) -> Format:
    """The format of the answer: the one that is named, else what `Accept` likes best.

    Raises:
        ApiError: `Accept` names nothing that can be made.
    """
    if asked is not None:
        return asked
    offers: dict[str, Format] = {
        kind: name for name, kind in MEDIA_TYPES.items() if name != "depth"
    }
    for pattern in _by_liking(accepted):
        for kind, name in offers.items():
            group = pattern.removesuffix("/*")
            if pattern in ("*/*", kind) or (
                pattern.endswith("/*") and kind.startswith(f"{group}/")
            ):
                return name
    raise ApiError(
        ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        f"Accept is {accepted!r}; answers come as {', '.join(offers)}: name one, or use ?format=",
        status=406,
    )


def _by_liking(accepted: str) -> list[str]:
    liked: list[tuple[float, str]] = []
    for part in accepted.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            liked.append((float(quality), kind.lower()))
        except ValueError:
            liked.append((0.0, kind.lower()))
    return [kind for quality, kind in sorted(liked, key=lambda each: -each[0]) if quality > 0]
