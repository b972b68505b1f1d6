"""Layers that are computed together otherwise, and that somebody watches or has replaced."""

import torch
from test_alexnet import images_for, small
from torch import nn


def test_a_hooked_or_replaced_layer_is_computed_by_itself():
    """Forward hooks see what passes; backward hooks (Grad-CAM's) see gradients; an ablated layer is really gone."""
    network, seen = small("paper"), []
    images = images_for(network)
    before = network(images)
    for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        handle = getattr(network.norm1, register)(lambda *_, name=register: seen.append(name))
        after = network(images.clone().requires_grad_())
        after.sum().backward()
        handle.remove()
        torch.testing.assert_close(after, before)
    assert seen == ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
    network.norm1 = nn.Identity()
    assert not torch.allclose(network(images), before)
    expected = network.activations(images)["fc8"]
    torch.testing.assert_close(network(images), expected)
