"""Rotary embedding as the model applied it: found by applying it again to what went in, never taken on trust."""

import torch

from .._errors import invalid

SAMPLE = 256  # tokens that are compared
TOLERANCE = 0.02  # of the norm: bf16 models round the rotated numbers to 0.4 %; a wrong rotation is off by far more


def rotation_of(pre, post, cos, sin):
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
    """What is known of the rotation: {layer: (layout, rope_dim) or None} as found, theta as the config says."""
    kinds = set(rotations.values())
    if len(kinds) > 1:
        said = ", ".join(f"{layer}: {kind[0] if kind else 'unknown'}" for layer, kind in sorted(rotations.items()))
        raise invalid("layers", f"with rotations {said}", "alike in one file", "a file for each kind")
    kind = kinds.pop()
    theta = _of_config(config)
    if kind is not None and kind[0] == "none" or kind is None and not theta:
        return {"rope": "none"}
    return {**theta, **({"rope_layout": kind[0], "rope_dim": str(kind[1])} if kind else {})}


def _of_config(config):
    """rope_theta and, where its frequencies are scaled, rope_scaling; {} where the config has none."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    theta = parameters.get("rope_theta")
    for name in ("rope_theta", "rotary_emb_base"):
        theta = getattr(config, name, None) if theta is None else theta
    if theta is None:
        return {}
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    scaling = {} if kind == "default" else {"rope_scaling": str(kind)}
    return {"rope_theta": repr(float(theta)).removesuffix(".0"), **scaling}
