"""The kernels on a card: the same operators as in the folder above, file by file, written in Numba's CUDA.

    from npresnet.kernels.cuda import conv2d_cuda
    y = conv2d_cuda(x, w, bias, stride=2, padding="same")    # NumPy's arrays in and out, or a device's

Functions take their CPU twins' arguments, with ``stream=`` for ``threads=``: what the work is queued on. ``LADDER`` has
the versions under the operators' names. It takes the package numba-cuda, and a card, or ``NUMBA_ENABLE_CUDASIM=1`` in the
environment for Numba's simulator. Nothing is compiled before its first call.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError("npresnet.kernels.cuda needs the package numba-cuda; `pip install 'npresnet[cuda]'` brings it")
if not hasattr(np, "row_stack"):  # which numba-cuda 0.30.4 names whenever it compiles, and NumPy 2.5 has no more
    np.row_stack = np.vstack  # type: ignore[attr-defined, unused-ignore]

from .activation import activation_cuda
from .add import add_cuda
from .avgpool import avgpool_cuda, global_avgpool_cuda
from .batchnorm import batchnorm_cuda
from .channel_reduce import channel_reduce_cuda
from .channels import channels_cuda
from .combine import combine_cuda
from .concatenate import concatenate_cuda
from .conv2d import conv2d_cuda, conv2d_cuda_direct, conv2d_cuda_im2col, workspace_rows
from .conv2d_transpose import conv2d_transpose_cuda
from .crop import crop_cuda
from .dense import dense_cuda
from .gemm import gemm_cuda, gemm_cuda_naive, gemm_cuda_shared, gemm_cuda_tiled, gemm_cuda_vectorized
from .globalmaxpool import global_maxpool_cuda
from .grouped import grouped_conv2d_cuda
from .groupnorm import groupnorm_cuda
from .im2col import im2col_cuda
from .leaky_relu import leaky_relu_cuda
from .maxpool import maxpool_cuda
from .pad import pad_cuda
from .relu import relu_cuda
from .resize import resize_cuda
from .scale import scale_cuda
from .softmax import softmax_cuda
from .unitnorm import unitnorm_cuda
from .upsample import upsample_cuda

__all__ = [
    "LADDER",
    "activation_cuda",
    "add_cuda",
    "avgpool_cuda",
    "batchnorm_cuda",
    "channel_reduce_cuda",
    "channels_cuda",
    "combine_cuda",
    "concatenate_cuda",
    "conv2d_cuda",
    "conv2d_cuda_direct",
    "conv2d_cuda_im2col",
    "conv2d_transpose_cuda",
    "crop_cuda",
    "dense_cuda",
    "gemm_cuda",
    "gemm_cuda_naive",
    "gemm_cuda_shared",
    "gemm_cuda_tiled",
    "gemm_cuda_vectorized",
    "global_avgpool_cuda",
    "global_maxpool_cuda",
    "grouped_conv2d_cuda",
    "groupnorm_cuda",
    "im2col_cuda",
    "leaky_relu_cuda",
    "maxpool_cuda",
    "pad_cuda",
    "relu_cuda",
    "resize_cuda",
    "scale_cuda",
    "softmax_cuda",
    "unitnorm_cuda",
    "upsample_cuda",
    "workspace_rows",
]

LADDER: dict[str, tuple[Callable[..., Any], ...]] = {
    "pad": (pad_cuda,),
    "channels": (channels_cuda,),
    "crop": (crop_cuda,),
    "im2col": (im2col_cuda,),
    "gemm": (gemm_cuda_naive, gemm_cuda_shared, gemm_cuda_tiled, gemm_cuda_vectorized),
    "conv2d": (conv2d_cuda_direct, conv2d_cuda_im2col),
    "grouped_conv2d": (grouped_conv2d_cuda,),
    "conv2d_transpose": (conv2d_transpose_cuda,),
    "batchnorm": (batchnorm_cuda,),
    "scale": (scale_cuda,),
    "relu": (relu_cuda,),
    "leaky_relu": (leaky_relu_cuda,),
    "activation": (activation_cuda,),
    "add": (add_cuda,),
    "combine": (combine_cuda,),
    "concatenate": (concatenate_cuda,),
    "maxpool": (maxpool_cuda,),
    "avgpool": (avgpool_cuda,),
    "global_avgpool": (global_avgpool_cuda,),
    "global_maxpool": (global_maxpool_cuda,),
    "channel_reduce": (channel_reduce_cuda,),
    "resize": (resize_cuda,),
    "upsample": (upsample_cuda,),
    "dense": (dense_cuda,),
    "softmax": (softmax_cuda,),
    "groupnorm": (groupnorm_cuda,),
    "unitnorm": (unitnorm_cuda,),
}
"""The versions of each operator, under the names of ``npresnet.kernels.LADDER``; that has the reference, too."""
