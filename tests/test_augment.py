"""The augmentation against the golden values, and its properties."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Streams
from fairdd_cli.training import augmentation as augment

GOLDEN = np.load(Path(__file__).parent / "golden" / "dsa.npz")
SIZE = (32, 32)
CASES = {
    "brightness": {"brightness": "brightness_offset"},
    "saturation": {"saturation": "saturation_factor"},
    "contrast": {"contrast": "contrast_factor"},
    "flip": {"flip": "flip_flipped"},
    "scale": {"scale_x": "scale_scale_x", "scale_y": "scale_scale_y"},
    "rotate": {"angle": "rotate_radians"},
    "crop": {"shift_rows": "crop_shift_rows", "shift_cols": "crop_shift_cols"},
    "cutout": {"centre_row": "cutout_centre_row", "centre_col": "cutout_centre_col"},
}


@pytest.mark.parametrize("operation", CASES)
def test_agrees_with_the_golden_values(operation: str) -> None:
    images = torch.from_numpy(GOLDEN["input"])
    drawn = {}
    for name, key in CASES[operation].items():
        value = torch.tensor(GOLDEN[key].item())
        drawn[name] = (value.float() if value.is_floating_point() else value.long()).expand(len(images))
    found = getattr(augment, operation)(images, drawn)
    np.testing.assert_allclose(found.numpy(), GOLDEN[f"{operation}_output"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_batch_is_augmented_as_its_images_one_by_one(layout: torch.memory_format) -> None:
    images = torch.randn(24, 3, *SIZE, generator=Streams(0).torch("test")).to(memory_format=layout)
    slot = torch.arange(24) % 8
    draw = augment.sample_siamese(augment.FULL, 8, SIZE, Streams(1).torch("draw"))
    together = draw.apply(images, slot)
    alone = torch.cat([draw.apply(images[i : i + 1], slot[i : i + 1]) for i in range(24)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert len(set(draw.operations)) > 2


@pytest.mark.parametrize("size", [(32, 32), (16, 64), (48, 24)])
def test_a_rotation_turns_by_its_angle_whatever_the_sides(size: tuple[int, int]) -> None:
    angle = 0.25
    rows, cols = (torch.arange(side) - (side - 1) / 2 for side in size)
    across = (cols[None, :] - 4) ** 2 + rows[:, None] ** 2  # a spot, 4 pixels to the right of the centre
    image = torch.exp(-across / 4)[None, None]
    turned = augment.rotate(image, {"angle": torch.tensor([angle])})[0, 0]
    weight = turned / turned.sum()
    place = [float((weight * cols[None, :]).sum()), float((weight * rows[:, None]).sum())]
    assert place == pytest.approx([4 * np.cos(angle), -4 * np.sin(angle)], abs=0.05)


@pytest.mark.parametrize("operation", ["scale", "rotate"])
@pytest.mark.parametrize("size", [(32, 32), (9, 14)])
def test_images_are_warped_alike_where_torch_must_be_deterministic(operation: str, size: tuple[int, int]) -> None:
    draw = augment.sample_per_image(operation, 7, size, Streams(2).torch("draw"))
    weight = torch.randn(7, 3, *size, generator=Streams(1).torch("test"))
    found = []
    for deterministic in (False, True):
        images = torch.randn(7, 3, *size, generator=Streams(0).torch("test"), requires_grad=True)
        torch.use_deterministic_algorithms(deterministic)
        try:
            warped = draw.apply(images, torch.arange(7))
        finally:
            torch.use_deterministic_algorithms(False)
        (gradient,) = torch.autograd.grad((warped * weight).sum(), images)
        found.append((type(warped.grad_fn).__name__, warped, gradient))
    (plain, *values), (gathered, *others) = found
    assert plain == "GridSampler2DBackward0" != gathered
    torch.testing.assert_close(values, others, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("operation", augment.OPERATIONS)
def test_pixels_are_moved_exactly_where_arithmetic_is_in_bf16(operation: str, deterministic: bool) -> None:
    draw = augment.sample_per_image(operation, 7, (64, 64), Streams(2).torch("draw"))
    images = torch.randn(7, 3, 64, 64, generator=Streams(0).torch("test"))
    torch.use_deterministic_algorithms(deterministic)
    try:
        expected = draw.apply(images, torch.arange(7))
        with torch.autocast("cpu", torch.bfloat16):
            found = draw.apply(images, torch.arange(7))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found, expected)


def test_siamese_images_of_a_class_share_operation_and_parameters() -> None:
    images = torch.randn(1, 3, *SIZE, generator=Streams(0).torch("test")).expand(6, -1, -1, -1)
    for seed in range(20):
        draw = augment.sample_siamese(augment.FULL, 1, SIZE, Streams(seed).torch("draw"))
        augmented = draw.apply(images, torch.zeros(6, dtype=torch.long))
        torch.testing.assert_close(augmented, augmented[:1].expand_as(augmented), rtol=0, atol=0)


def test_single_draws_share_the_operation_but_not_the_parameters() -> None:
    images = torch.randn(1, 3, *SIZE, generator=Streams(0).torch("test")).expand(16, -1, -1, -1)
    draw = augment.sample_per_image("scale", 16, SIZE, Streams(0).torch("draw"))
    augmented = draw.apply(images, torch.arange(16))
    assert set(draw.operations) == {"scale"}
    assert (augmented[0] - augmented[1]).abs().max() > 0.01


def test_every_operation_is_drawn_about_as_often_and_stays_in_its_range() -> None:
    draw = augment.sample_siamese(augment.FULL, 6000, SIZE, Streams(3).torch("draw"))
    for name in augment.OPERATIONS:
        assert 850 < draw.operations.count(name) < 1150
    ranges = {
        "brightness": (-0.5, 0.5),
        "saturation": (0, 2),
        "contrast": (0.5, 1.5),
        "shift_rows": (-4, 4),
        "shift_cols": (-4, 4),
        "centre_row": (0, 32),
        "centre_col": (0, 32),
        "scale_x": (1 / 1.2, 1.2),
        "scale_y": (1 / 1.2, 1.2),
        "angle": (-0.2618, 0.2618),
    }
    values = {key: value for drawn in draw.parameters.values() for key, value in drawn.items()}
    for name, (low, high) in ranges.items():
        span = high - low
        assert low <= values[name].min() < low + 0.02 * span, name
        assert high - 0.02 * span < values[name].max() <= high, name


def test_the_gradient_passes_through_every_operation() -> None:
    for name in augment.OPERATIONS:
        images = torch.randn(4, 3, *SIZE, generator=Streams(0).torch("test")).requires_grad_()
        draw = augment.sample_per_image(name, 4, SIZE, Streams(5).torch("draw"))
        draw.apply(images, torch.arange(4)).square().sum().backward()
        assert images.grad is not None
        assert torch.isfinite(images.grad).all()
        assert images.grad.abs().sum() > 0


def test_an_unknown_operation_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'rotate'"):
        augment.sample_siamese("color_rotat", 1, SIZE, Streams(0).torch("draw"))
