"""The peak on a GPU that is not here: any PyTorch program, run over a stand-in for NVIDIA's runtime.

Comes in: a card of the catalogue and a command, which may be one rank of several. Goes out: the bytes that PyTorch's
own caching allocator counts, by phase and bucket, and the lines that took them. `standin` is the runtime in C, `build`
compiles it, `inside` watches from within the program. Never imports another room.
"""
