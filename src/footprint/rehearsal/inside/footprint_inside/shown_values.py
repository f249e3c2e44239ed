"""What `print` says of a tensor on the card: its values where a rehearsal has them, else three dots."""

from functools import wraps

import torch
import torch._tensor_str

from footprint_inside.known import hosted, is_known


def show_no_leftovers():
    """Let no value be printed that no kernel has written. PyTorch's printing counts which values it is to show: of
    leftovers there may be billions.
    """
    whole = torch._tensor_str._str

    @wraps(whole)
    def shown(tensor, *, tensor_contents=None):
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if tensor_contents is None and plain and tensor.is_cuda:
            tensor_contents = str(hosted(tensor).tolist()) if is_known(tensor) else "..."
        return whole(tensor, tensor_contents=tensor_contents)

    torch._tensor_str._str = shown
