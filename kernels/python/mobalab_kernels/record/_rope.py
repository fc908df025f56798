"""Rotary embedding as the model applied it: found by applying it again to what went in, never taken on trust."""

from typing import NamedTuple

import torch

from .._errors import invalid

SAMPLE = 256  # tokens that are compared
TOLERANCE = 0.02  # of the norm: bf16 models round the rotated numbers to 0.4 %; a wrong rotation is off by far more


class Rotation(NamedTuple):
    layout: str
    width: int  # channels that are rotated, rope_dim
    cosines: tuple  # [width] at position 1


def layout_of(pre, post, cos, sin):
    """The layout of the rotation that takes pre to post (both [token, head, dim]), or None where none does.

    "half" turns channel i together with i + rope_dim / 2, "interleaved" 2 i with 2 i + 1; "none": the two are equal.
    cos and sin: [token, rope_dim], as the model made them.
    """
    if pre.shape != post.shape:
        return None
    rows = torch.linspace(0, pre.shape[0] - 1, min(SAMPLE, pre.shape[0])).long().unique().to(pre.device)
    pre, post = pre[rows].float(), post[rows].float()
    if _near(pre, post):
        return "none"
    cos, sin = (x.to(pre.device)[rows].float()[:, None] for x in (cos, sin))
    width = cos.shape[-1]
    if width > pre.shape[-1] or width % 2:
        return None
    paired = [x[..., : width // 2].repeat_interleave(2, -1) for x in (cos, sin)]
    for layout, c, s in (("half", cos, sin), ("interleaved", cos, sin), ("interleaved", *paired)):
        if _near(_rotated(pre, c, s, layout), post):
            return layout
    return None


def _rotated(x, cos, sin, layout):
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    if layout == "half":
        first, second = turned.chunk(2, -1)
        partner = torch.cat((-second, first), -1)
    else:
        partner = torch.stack((-turned[..., 1::2], turned[..., ::2]), -1).flatten(-2)
    return torch.cat((turned * cos + partner * sin, rest), -1)


def _near(x, y):
    return bool((x - y).norm() < TOLERANCE * y.norm())


def metadata(rotations, config):
    """What is known of the rotation, from {layer: Rotation, or None where none was found} and the model's config."""
    kinds = set(rotations.values())
    if len(kinds) > 1:
        said = ", ".join(f"{layer}: {kind.layout if kind else 'unknown'}" for layer, kind in sorted(rotations.items()))
        raise invalid("layers", f"with different rotations ({said})", "alike in one file", "a file for each kind")
    kind = kinds.pop()
    theta, scaling = _of_config(config, min(rotations))
    if kind is not None and kind.layout == "none" or kind is None and theta is None:
        return {"rope": "none"}
    found = {} if kind is None else {"rope_layout": kind.layout, "rope_dim": str(kind.width)}
    if theta is not None and (kind is None or _gives(theta, kind)):
        found["rope_theta"] = repr(float(theta)).removesuffix(".0")
    return found if scaling == "default" else {**found, "rope_scaling": scaling}


def _of_config(config, layer):
    """(theta or None, kind of scaling) that the config states for the layer."""
    stated = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if stated and all(isinstance(value, dict) for value in stated.values()):  # one for each type of layer
        stated = stated.get(config.layer_types[layer], {})
    theta = stated.get("rope_theta")
    for name in ("rope_theta", "rotary_emb_base"):
        theta = getattr(config, name, None) if theta is None else theta
    return theta, str(stated.get("rope_type", stated.get("type", "default")))


def _gives(theta, rotation):
    """Whether angles theta^(-2 i / rope_dim) at position 1 have the cosines of the model."""
    half = rotation.width // 2
    want = torch.cos(float(theta) ** (-2.0 * torch.arange(half) / rotation.width))
    cosines = torch.tensor(rotation.cosines)
    return any(bool(((x - want).abs() < TOLERANCE).all()) for x in (cosines[:half], cosines[::2]))
