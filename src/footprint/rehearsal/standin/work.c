/* Work: streams that are always done, kernels that return at once, products that are never computed. */
#define _GNU_SOURCE
#include "standin.h"
#include <stdlib.h>
#include <string.h>

/* Streams and events. */
EXPORT int cudaStreamCreate(void **stream) { *stream = handle(); return SUCCESS; }
EXPORT int cudaStreamCreateWithFlags(void **stream, unsigned flags) { (void)flags; *stream = handle(); return SUCCESS; }
EXPORT int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)flags; (void)priority;
    *stream = handle();
    return SUCCESS;
}
EXPORT int cudaStreamGetPriority(void *stream, int *priority) { (void)stream; *priority = 0; return SUCCESS; }
EXPORT int cudaEventCreate(void **event) { *event = handle(); return SUCCESS; }
EXPORT int cudaEventCreateWithFlags(void **event, unsigned flags) { (void)flags; *event = handle(); return SUCCESS; }
EXPORT int cudaEventDestroy(void *event) { free(event); return SUCCESS; }
EXPORT int cudaEventElapsedTime(float *milliseconds, void *a, void *b) { (void)a; (void)b; *milliseconds = 1; return SUCCESS; }
EXPORT int cudaEventElapsedTime_v2(float *milliseconds, void *a, void *b) { return cudaEventElapsedTime(milliseconds, a, b); }

/* No stream is ever being captured into a graph. */
EXPORT int cudaStreamIsCapturing(void *stream, int *status) { (void)stream; *status = 0; return SUCCESS; }
EXPORT int cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *id) {
    (void)stream;
    *status = 0;
    if (id) *id = 0;
    return SUCCESS;
}
EXPORT int cudaStreamGetCaptureInfo_v2(void *s, int *status, unsigned long long *id) { return cudaStreamGetCaptureInfo(s, status, id); }
EXPORT int cudaStreamGetCaptureInfo_v3(void *s, int *status, unsigned long long *id) { return cudaStreamGetCaptureInfo(s, status, id); }

/* Functions that a stream is asked to call on the host are called at once. */
EXPORT int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) { (void)stream; function(data); return SUCCESS; }
EXPORT int cudaStreamAddCallback(void *stream, void (*function)(void *, int, void *), void *data, unsigned flags) {
    (void)flags;
    function(stream, SUCCESS, data);
    return SUCCESS;
}

/* Kernels. A launch written <<<...>>> pushes its configuration, and the launching function pops it again. */
struct dimensions { unsigned x, y, z; };
static __thread struct { struct dimensions grid, block; size_t shared; void *stream; } call;

EXPORT unsigned __cudaPushCallConfiguration(struct dimensions grid, struct dimensions block, size_t shared, void *stream) {
    call.grid = grid; call.block = block; call.shared = shared; call.stream = stream;
    return SUCCESS;
}
EXPORT int __cudaPopCallConfiguration(struct dimensions *grid, struct dimensions *block, size_t *shared, void **stream) {
    *grid = call.grid; *block = call.block; *shared = call.shared; *stream = call.stream;
    return SUCCESS;
}

EXPORT void **__cudaRegisterFatBinary(void *binary) { static void *one[8]; (void)binary; return one; }
EXPORT char __cudaInitModule(void **handle_) { (void)handle_; return 1; }
EXPORT int __cudaGetKernel(void **kernel, const void *entry) { *kernel = (void *)entry; return SUCCESS; }
EXPORT int cudaGetFuncBySymbol(void **function, const void *symbol) { *function = (void *)symbol; return SUCCESS; }
EXPORT int cudaGetSymbolAddress(void **at, const void *symbol) { static char zeros[1 << 16]; (void)symbol; *at = zeros; return SUCCESS; }

/* The generation whose kernels a card runs: the newest that PyTorch's wheels are compiled for and that is not newer than the
   card. CUB asks for it and gives up on one that it was not compiled for. */
static int compiled(void) {
    static const int generations[] = {120, 100, 90, 86, 80, 75, 70, 60, 50};
    int own = card()->major * 10 + card()->minor;
    for (size_t i = 0; i < sizeof generations / sizeof *generations; i++)
        if (generations[i] <= own) return generations[i];
    return own;
}

/* cudaFuncAttributes, 144 bytes. Registers are invented; that no kernel is refused for want of them is all that matters. */
EXPORT int cudaFuncGetAttributes(char *attributes, const void *function) {
    const int fields[][2] = {{24, 1024}, {28, 32}, {32, compiled()}, {36, compiled()}, {44, (int)card()->block_memory}};
    (void)function;
    memset(attributes, 0, 144);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) memcpy(attributes + fields[i][0], &fields[i][1], sizeof(int));
    return SUCCESS;
}

EXPORT int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t shared) {
    (void)function;
    *blocks = resident_blocks(threads, shared);
    return SUCCESS;
}
EXPORT int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads, size_t shared,
                                                                  unsigned flags) {
    (void)flags;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared);
}

/* cuBLAS and cublasLt: handles, and always one algorithm that needs no workspace of its own. */
#define CUBLAS_VERSION (CUDA_VERSION >= 13000 ? 130101 : 120103)

EXPORT int cublasCreate_v2(void **out) { *out = handle(); return SUCCESS; }
EXPORT int cublasGetMathMode(void *h, int *mode) { (void)h; *mode = 0; return SUCCESS; }
EXPORT int cublasGetPointerMode_v2(void *h, int *mode) { (void)h; *mode = 0; return SUCCESS; }
EXPORT int cublasGetVersion_v2(void *h, int *version) { (void)h; *version = CUBLAS_VERSION; return SUCCESS; }
EXPORT size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }
EXPORT int cublasLtCreate(void **out) { *out = handle(); return SUCCESS; }
EXPORT int cublasLtMatmulDescCreate(void **out, int compute, int scale) { (void)compute; (void)scale; *out = handle(); return SUCCESS; }
EXPORT int cublasLtMatmulPreferenceCreate(void **out) { *out = handle(); return SUCCESS; }
EXPORT int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    (void)type; (void)rows; (void)columns; (void)leading;
    *out = handle();
    return SUCCESS;
}

struct heuristic { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; };

EXPORT int cublasLtMatmulAlgoGetHeuristic(void *h, void *operation, void *a, void *b, void *c, void *d, void *preference,
                                          int wanted, struct heuristic *results, int *found) {
    (void)h; (void)operation; (void)a; (void)b; (void)c; (void)d; (void)preference;
    memset(results, 0, sizeof *results * wanted);
    results[0].waves = 1;
    *found = 1;
    return SUCCESS;
}

/* NCCL is asked for its version alone: process groups are PyTorch's own that communicate nothing. */
EXPORT int ncclGetVersion(int *version) { *version = 22907; return SUCCESS; }
