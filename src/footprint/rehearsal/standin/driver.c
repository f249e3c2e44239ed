/* The driver (libcuda) and the management library (libnvidia-ml), as far as PyTorch, Triton and scripts ask them. */
#define _GNU_SOURCE
#include "standin.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

EXPORT int cuInit(unsigned flags) { (void)flags; return visible_devices() ? SUCCESS : NO_DEVICE; }
EXPORT int cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return SUCCESS; }
EXPORT int cuDeviceGetCount(int *count) { *count = visible_devices(); return SUCCESS; }
EXPORT int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < visible_devices() ? SUCCESS : INVALID_DEVICE; }
EXPORT int cuDeviceGetName(char *text, int length, int device) { (void)device; snprintf(text, length, "%s", card()->name); return SUCCESS; }
EXPORT int cuDeviceGetAttribute(int *value, int which, int device) { (void)device; *value = attribute(which); return SUCCESS; }
EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = card()->total; return SUCCESS; }
EXPORT int cuMemGetInfo_v2(size_t *free_, size_t *total) {
    *total = card()->total;
    *free_ = card()->total - card()->context - memory_taken(chosen_device());
    return SUCCESS;
}
EXPORT int cuCtxGetCurrent(void **context) { static int one; *context = &one; return SUCCESS; }
EXPORT int cuCtxGetDevice(int *device) { *device = chosen_device(); return SUCCESS; }
EXPORT int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    (void)device;
    if (flags) *flags = 0;
    *active = 1;
    return SUCCESS;
}
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; return cuCtxGetCurrent(context); }
EXPORT int cuGetErrorString(int error, const char **text) { *text = error ? "the stand-in says no" : "no error"; return SUCCESS; }

/* Compiled kernels, Triton's among them: loaded and launched like all others. */
EXPORT int cuModuleLoadData(void **module, const void *image) { (void)image; *module = handle(); return SUCCESS; }
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name) { (void)module; (void)name; *function = handle(); return SUCCESS; }
EXPORT int cuFuncGetAttribute(int *value, int which, void *function) {
    (void)function;
    *value = which == 0 ? 1024 : which == 4 ? 32 : 0;  /* threads of a block; registers */
    return SUCCESS;
}
EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads, size_t shared) {
    (void)function;
    *blocks = resident_blocks(threads, shared);
    return SUCCESS;
}

/* Virtual memory, which expandable segments are made of: addresses, and physical memory that is mapped to them. */
struct physical { size_t size; int device; };

/* CUmemAllocationProp: its type, the handles that are asked for, the kind of its place, and which one of that kind. */
struct allocation_properties { int type, handles, place, which; };

EXPORT int cuMemGetAllocationGranularity(size_t *size, const void *properties, int option) {
    (void)properties; (void)option;
    *size = 2 << 20;
    return SUCCESS;
}
EXPORT int cuMemAddressReserve(void **at, size_t size, size_t alignment, void *hint, unsigned long long flags) {
    (void)alignment; (void)hint; (void)flags;
    *at = reserve(size);
    return *at ? SUCCESS : OUT_OF_MEMORY;
}
EXPORT int cuMemAddressFree(void *at, size_t size) { munmap(at, size); return SUCCESS; }
EXPORT int cuMemCreate(unsigned long long *out, size_t size, const struct allocation_properties *properties, unsigned long long flags) {
    (void)flags;
    struct physical *memory = malloc(sizeof *memory);
    if (!memory || take(properties->which, size) != SUCCESS) {
        free(memory);
        return OUT_OF_MEMORY;
    }
    *memory = (struct physical){size, properties->which};
    *out = (uintptr_t)memory;
    return SUCCESS;
}
EXPORT int cuMemRelease(unsigned long long which) {
    struct physical *memory = (struct physical *)(uintptr_t)which;
    give(memory->device, memory->size);
    free(memory);
    return SUCCESS;
}
EXPORT int cuMemUnmap(void *at, size_t size) { madvise(at, size, MADV_DONTNEED); return SUCCESS; }

/* Functions that are looked up by name. */
static int look_up(const char *name, void **function, int *status) {
    *function = dlsym(RTLD_DEFAULT, name);
    if (status) *status = *function ? 0 : 1;  /* found; there is no such symbol */
    return SUCCESS;
}
EXPORT int cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags, int *status) {
    (void)flags;
    return look_up(name, function, status);
}
EXPORT int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags, int *status) {
    (void)version; (void)flags;
    return look_up(name, function, status);
}
EXPORT int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    (void)version; (void)flags;
    return look_up(name, function, status);
}

/* The management library. */
enum { NVML_NOT_SUPPORTED = 3 };
struct nvml_memory { unsigned long long total, free, used; };
struct nvml_memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
struct nvml_utilization { unsigned gpu, memory; };

static int the_cards[MOST_DEVICES];  /* a card's handle is the address of its place */

static int device_handle(unsigned index, void **device) {
    *device = &the_cards[index < MOST_DEVICES ? index : 0];
    return SUCCESS;
}
EXPORT int nvmlInit(void) { return SUCCESS; }
EXPORT int nvmlInit_v2(void) { return SUCCESS; }
EXPORT int nvmlInitWithFlags(unsigned flags) { (void)flags; return SUCCESS; }
EXPORT int nvmlShutdown(void) { return SUCCESS; }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)card()->devices; return SUCCESS; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { return device_handle(index, device); }
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) { (void)bus; return device_handle(0, device); }
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { (void)uuid; return device_handle(0, device); }
EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned length) { (void)device; snprintf(text, length, "%s", card()->name); return SUCCESS; }
EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
    (void)device;
    snprintf(text, length, "GPU-5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a00");
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct nvml_memory *memory) {
    unsigned long long used = card()->context + memory_taken((int)((int *)device - the_cards));
    *memory = (struct nvml_memory){card()->total, card()->total - used, used};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMemoryInfo_v2(void *device, struct nvml_memory_v2 *memory) {
    struct nvml_memory one;
    nvmlDeviceGetMemoryInfo(device, &one);
    *memory = (struct nvml_memory_v2){memory->version, one.total, 0, one.free, one.used};
    return SUCCESS;
}
EXPORT int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    *major = card()->major;
    *minor = card()->minor;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetUtilizationRates(void *device, struct nvml_utilization *rates) { (void)device; memset(rates, 0, sizeof *rates); return SUCCESS; }
EXPORT int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, void *processes) { (void)device; (void)processes; *count = 0; return SUCCESS; }
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *processes) { return nvmlDeviceGetComputeRunningProcesses(device, count, processes); }
EXPORT int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NVML_NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NVML_NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetP2PStatus(void) { return NVML_NOT_SUPPORTED; }
EXPORT int nvmlDeviceGetGpuFabricInfoV(void) { return SUCCESS; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = CUDA_VERSION; return SUCCESS; }
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "rehearsal"); return SUCCESS; }
EXPORT const char *nvmlErrorString(int error) { return error ? "Not Supported" : "Success"; }
