"""What a tensor is made of: most have memory of their own, some consist of others that have."""

import torch
from torch.nn.parameter import is_lazy


def dense(tensor):
    """The tensors that hold a tensor's numbers: itself; of a sparse one its indices and values, the values last; what a
    jagged or a sharded one is made of.
    """
    if hasattr(type(tensor), "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()  # a sharded one names its mesh, too
        inner = (getattr(tensor, name) for name in names)
        return [part for one in inner if isinstance(one, torch.Tensor) for part in dense(one)]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.values()] if tensor.is_nested else [tensor]


def places(tensor):
    """Where on the card the memory of a tensor begins and, where bitsandbytes has quantized it, that of its scales and
    code books. Nowhere for what is no tensor, or none yet.
    """
    if not isinstance(tensor, torch.Tensor) or is_lazy(tensor):
        return
    parts, state = dense(tensor), getattr(tensor, "quant_state", None)
    while state is not None:
        parts += (value for value in vars(state).values() if isinstance(value, torch.Tensor))
        state = getattr(state, "state2", None)
    for part in parts:
        if part.is_cuda:
            yield part.untyped_storage().data_ptr()
