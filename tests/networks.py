"""Small networks of the kinds that people bring in, for tests of several rooms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Branching", "GatedUnit", "LinearBottleneck", "SqueezeExcite", "TinyCCT", "TinyViT"]


class Encoder(nn.Module):
    """One block of a transformer, normalised first, with ``nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.up, self.act, self.down = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(self.act(self.up(self.norm2(x))))


class TinyViT(nn.Module):
    """A vision transformer: patches, a class token, positions, two blocks; images ``[B, 3, 12, 12]``."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 10, 16) / 4)
        self.blocks = nn.Sequential(Encoder(16, 2), Encoder(16, 4))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class TinyCCT(nn.Module):
    """A compact convolutional transformer: convolutions in front, attention written out, pooling by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.pool, self.head = nn.Linear(16, 1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 3, 2, 1).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        x = x + self.down(F.gelu(self.up(x), approximate="tanh"))
        weights = self.pool(x).softmax(1)
        return self.head((weights.transpose(1, 2) @ x).squeeze(1))


class SqueezeExcite(nn.Module):
    """A convolution with Hardswish, a gate of squeeze and excitation, a depthwise convolution with SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.depthwise, self.act, self.head = nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.conv(x)))
        gate = F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.head(self.act(self.depthwise(gate * x)).mean((2, 3)))


class GatedUnit(nn.Module):
    """Gated linear units, one of them SwiGLU, with a root-mean-square norm; inputs ``[B, 6]``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.value = nn.Linear(6, 16), nn.Linear(8, 12), nn.Linear(8, 12)
        self.norm, self.last = nn.RMSNorm(8), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(F.glu(self.first(x), 1))
        return self.last(F.silu(self.gate(x)) * self.value(x))


class LinearBottleneck(nn.Module):
    """Two inverted residuals of MobileNetV2, whose narrow ends have no activation; images ``[B, 3, 12, 12]``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6(),
                nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6(),
                nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8),
            )
            for _ in range(2)
        )  # fmt: skip
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


class Branching(nn.Module):
    """A forward that goes by values, so that no graph is captured of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        if float(x.detach().max()) > -1:
            x = x + 1
        return self.last(x.mean((2, 3)))
