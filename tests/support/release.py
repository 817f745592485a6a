"""The variables of the authors' checkpoints, by the graph of their code: a second account of the network."""

import numpy as np

# Channels, multipliers, attention's height and the images' height of its networks.
CIFAR = (128, (1, 2, 2, 2), 16, 32)
LARGE = (128, (1, 1, 2, 2, 4, 4), 16, 256)
SMALL = (32, (1, 2), 16, 32)


def variables(channels: int, multipliers: tuple[int, ...], attention: int, size: int, out: int = 3):
    """Name to shape, without EMA and slots; 'attention' is the height that has it, 'size' the images'."""
    found: dict[str, tuple[int, ...]] = {}
    widths = [channels * m for m in multipliers]
    last = len(widths) - 1
    heights = [size >> i for i in range(len(widths))]

    def conv(name, inside, outside):
        found.update({f"model/{name}/W": (3, 3, inside, outside), f"model/{name}/b": (outside,)})

    def nin(name, inside, outside):
        found.update({f"model/{name}/W": (inside, outside), f"model/{name}/b": (outside,)})

    def norm(name, width):
        found.update({f"model/{name}/gamma": (width,), f"model/{name}/beta": (width,)})

    def resnet_block(name, inside, outside):
        norm(f"{name}/norm1", inside)
        conv(f"{name}/conv1", inside, outside)
        nin(f"{name}/temb_proj", 4 * channels, outside)
        norm(f"{name}/norm2", outside)
        conv(f"{name}/conv2", outside, outside)
        if inside != outside:
            nin(f"{name}/nin_shortcut", inside, outside)

    def attn_block(name, width):
        norm(f"{name}/norm", width)
        for part in ("q", "k", "v", "proj_out"):
            nin(f"{name}/{part}", width, width)

    nin("temb/dense0", channels, 4 * channels)
    nin("temb/dense1", 4 * channels, 4 * channels)
    conv("conv_in", 3, channels)
    skips = [channels]
    for i, width in enumerate(widths):
        for j in range(2):
            resnet_block(f"down_{i}/block_{j}", skips[-1], width)
            if heights[i] == attention:
                attn_block(f"down_{i}/attn_{j}", width)
            skips.append(width)
        if i < last:
            conv(f"down_{i}/downsample/conv", width, width)
            skips.append(width)
    resnet_block("mid/block_1", widths[-1], widths[-1])
    attn_block("mid/attn_1", widths[-1])
    resnet_block("mid/block_2", widths[-1], widths[-1])
    inside = widths[-1]
    for i in range(last, -1, -1):
        for j in range(3):
            resnet_block(f"up_{i}/block_{j}", inside + skips.pop(), widths[i])
            inside = widths[i]
            if heights[i] == attention:
                attn_block(f"up_{i}/attn_{j}", widths[i])
        if i > 0:
            conv(f"up_{i}/upsample/conv", widths[i], widths[i])
    norm("norm_out", channels)
    conv("conv_out", channels, out)
    return found


def checkpoint(
    shapes: dict[str, tuple[int, ...]], step: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Every tensor that such a checkpoint has, of random numbers."""
    random = np.random.default_rng(seed)
    slots = ("", "/ExponentialMovingAverage", "/Adam", "/Adam_1")
    found = {
        name + slot: random.standard_normal(shape, dtype=np.float32)
        for name, shape in shapes.items()
        for slot in slots
    }
    powers = {"beta1_power": np.float32(0.9**step), "beta2_power": np.float32(0.999**step)}
    return found | powers | {"global_step": np.int64(step)}


def by_pesser(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights as his script leaves them: PyTorch's names, layouts, and 1x1 convolutions."""
    found = {}
    for name, array in tensors.items():
        *modules, leaf = name.removeprefix("model/").split("/")
        words = []
        for module in modules:
            head, _, number = module.rpartition("_")
            inside_mid = modules[0] == "mid"
            if head in ("down", "up", "block", "attn") and not inside_mid:
                words += [head, number]
            elif module.startswith("dense"):
                words += ["dense", module[-1]]
            else:
                words.append(module)
        if array.ndim == 4:
            array = np.transpose(array, (3, 2, 0, 1))
        elif array.ndim == 2:
            array = array.T
            if modules[-1] in ("q", "k", "v", "proj_out", "nin_shortcut"):
                array = array[:, :, None, None]
        words.append("weight" if leaf in ("W", "gamma") else "bias")
        found[".".join(words)] = np.ascontiguousarray(array)
    return found
