import torch

from omib_spatial.encoders import FrameResNet, SpectrogramResNet
from omib_spatial.encoders.clip import _random_part


def test_a_spectrogram_is_a_picture_of_one_channel():
    encoder = SpectrogramResNet("small", out_features=5).eval()
    spectrograms = torch.randn(3, 33, 47)
    codes = encoder(spectrograms)
    assert encoder.out_features == 5 and codes.shape == (3, 5)
    torch.testing.assert_close(codes, encoder.network(spectrograms[:, None]))
    torch.testing.assert_close(encoder(spectrograms.half()), codes, atol=1e-2, rtol=1e-2)


def test_a_clip_has_the_mean_code_of_its_frames():
    encoder = FrameResNet("small", out_features=5).eval()
    frames = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    codes = encoder(frames)
    assert encoder.out_features == 5 and codes.shape == (2, 5)
    alone = torch.stack([encoder(frames[:, i : i + 1]) for i in range(3)], 1).mean(1)
    torch.testing.assert_close(codes, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder(frames.flip(1)), codes, atol=1e-5, rtol=1e-4)


def test_pixels_are_scaled_by_imagenet():
    encoder = FrameResNet("small").eval()
    seen = []
    encoder.network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    encoder(torch.full((1, 1, 3, 32, 32), 51, dtype=torch.uint8))
    for channel, (mean, spread) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        torch.testing.assert_close(seen[0][0, channel], torch.full((32, 32), (0.2 - mean) / spread))


def test_training_shows_a_part_of_the_clip_which_all_its_frames_share():
    torch.manual_seed(0)
    # What is shown is where it was: red is the column, green the row, both from -1 to 1.
    side = torch.linspace(-1, 1, 65)
    place = torch.stack([side.expand(65, 65), side[:, None].expand(65, 65), torch.zeros(65, 65)])
    n, shown = 300, []
    parts = _random_part(place.repeat(n * 2, 1, 1, 1), n).unflatten(0, (n, 2))
    torch.testing.assert_close(parts[:, 0], parts[:, 1])
    for x, y in parts[:, 0, :2]:
        # From the middle half, which no border touches: an uncut frame has 1.
        width, height = x[0, 48] - x[0, 16], y[48, 0] - y[16, 0]
        shown.append([float(width), float(height)])
        assert torch.allclose(x, x[:1].expand_as(x), atol=1e-5) and torch.allclose(y, y[:, :1].expand_as(y), atol=1e-5)
        assert abs(width) <= 1 + 1e-4 and height <= 1 + 1e-4
        assert x.abs().max() <= 1 + 1e-6 and y.abs().max() <= 1 + 1e-6
    width, height = torch.tensor(shown).T
    assert 0.4 < (width < 0).float().mean() < 0.6
    area = width.abs() * height
    assert 0.06 < area.min() < 0.12 and area.max() > 0.9 and 0.49 < area.mean() < 0.59
    ratio = (width.abs() / height)[area < 0.5]
    assert 0.73 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.36


def test_augmentation_is_for_training_alone_and_can_be_left_out():
    frames = torch.randint(0, 256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    for augment in (True, False):
        encoder = FrameResNet("small", out_features=5, augment=augment)
        assert torch.equal(encoder.eval()(frames), encoder(frames))
        encoder.train()
        assert torch.equal(encoder(frames), encoder(frames)) is not augment


def test_gradient_reaches_every_parameter():
    for encoder, x in (
        (SpectrogramResNet("small", 4), torch.randn(4, 32, 32)),
        (FrameResNet("small", 4), torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8)),
    ):
        encoder(x).square().sum().backward()
        assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
