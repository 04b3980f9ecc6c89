"""A device without float64, as Apple's MPS is one, played by the CPU: for tests of what has to run there."""

import contextlib

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")  # the only one beside the CPU of which every build of torch knows
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class OnDevice(torch.Tensor):
    """Says that it lies on `DEVICE`, and has its values in a tensor of the CPU."""

    @staticmethod
    def __new__(cls, values):
        if values.dtype == torch.float64:
            raise TypeError("Cannot convert a tensor to float64: this device does not support it.")
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=DEVICE
        )
        made.values = values
        return made

    __torch_dispatch__ = classmethod(lambda cls, function, types, args=(), kwargs=None: _run(function, args, kwargs))


class NoFloat64(TorchDispatchMode):
    """Within it, `DEVICE` behaves as devices do: tensors are made on it, copied to it, and meet none of the CPU."""

    def __enter__(self):
        self.others = contextlib.ExitStack()
        self.others.enter_context(_Functions())
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.others.close()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs)


class _Functions(TorchFunctionMode):
    """`torch.tensor` takes no part in dispatching."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.tensor and kwargs.get("device") is not None:
            return torch.tensor(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        return function(*args, **kwargs)


def _run(function, args, kwargs):
    kwargs = dict(kwargs or {})
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    here = [isinstance(value, OnDevice) for value in tensors]
    if function not in COPIES and any(here) and any(one.ndim and not isinstance(one, OnDevice) for one in tensors):
        raise RuntimeError(f"{function}: expected all tensors to be on the same device.")
    wanted = kwargs.get("device")
    belongs = any(here) if wanted is None else torch.device(wanted) == DEVICE
    if wanted is not None and belongs:
        kwargs["device"] = torch.device("cpu")
    plain, named = tree_map_only(OnDevice, lambda value: value.values, (args, kwargs))
    result = function(*plain, **named)
    if function._schema.is_mutable and isinstance(result, torch.Tensor):
        return args[0]
    return tree_map_only(torch.Tensor, OnDevice, result) if belongs else result
